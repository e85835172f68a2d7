// A JSON API with Hono: routes, parameters, a body that is checked, and an error that has its own answer.
import { Hono } from "hono";

interface Order {
	item: string;
	amount: number;
}

const isOrder = (value: unknown): value is Order =>
	typeof value === "object" && value !== null && typeof (value as Order).item === "string" && Number.isInteger((value as Order).amount);

const app = new Hono().basePath("/api");

app.get("/orders/:id", (c) => c.json({ id: c.req.param("id"), status: "sent" }));

app.post("/orders", async (c) => {
	const order: unknown = await c.req.json();
	if (!isOrder(order)) return c.json({ error: "an order has an item and an amount" }, 400);
	return c.json({ id: crypto.randomUUID(), ...order }, 201);
});

app.notFound((c) => c.json({ error: `there is no ${c.req.path}` }, 404));

export default app;
