/** @jsxImportSource hono/jsx */
// A page that is made on the server with JSX.
import { html } from "hono/html";

const rows = [
	{ name: "Tea", price: 3 },
	{ name: "Coffee", price: 4 },
];

const Row = ({ name, price }: { name: string; price: number }) => (
	<li>
		{name}: <b>{price.toFixed(2)}</b>
	</li>
);

export default function (request: Request): Response {
	const title = new URL(request.url).searchParams.get("title") ?? "Menu";
	const page = (
		<html lang="en">
			<head>
				<title>{title}</title>
			</head>
			<body>
				<h1>{title}</h1>
				<ul>
					{rows.map((row) => (
						<Row {...row} />
					))}
				</ul>
			</body>
		</html>
	);
	return new Response(String(html`<!doctype html>${page}`), { headers: { "Content-Type": "text/html; charset=utf-8" } });
}
