// A webhook that verifies the signature of its sender: X-Signature-256 has the HMAC of the body, as GitHub sends it.
import type { Context, Env } from "./gojinn";

const encoder = new TextEncoder();

export default {
	async fetch(request: Request, env: Env, ctx: Context): Promise<Response> {
		if (request.method !== "POST") return new Response("only POST\n", { status: 405, headers: { Allow: "POST" } });
		const secret = env.WEBHOOK_SECRET;
		if (typeof secret !== "string" || secret === "") throw new Error("env WEBHOOK_SECRET is not set");
		const body = await request.arrayBuffer();
		const given = /^sha256=([0-9a-f]{64})$/.exec(request.headers.get("X-Signature-256") ?? "")?.[1];
		if (!given) return new Response("no signature\n", { status: 401 });
		const signature = Uint8Array.from(given.match(/../g) ?? [], (byte) => parseInt(byte, 16));
		const key = await crypto.subtle.importKey("raw", encoder.encode(secret), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
		if (!(await crypto.subtle.verify("HMAC", key, signature, body))) return new Response("wrong signature\n", { status: 401 });
		const event = JSON.parse(new TextDecoder().decode(body)) as { action?: string };
		console.log("event %s from %s", event.action ?? "unknown", ctx.clientIP);
		return new Response("thank you\n", { status: 202 });
	},
};
