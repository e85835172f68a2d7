// The smallest script: greets in JSON.
export default {
	async fetch(request, env) {
		const name = new URL(request.url).searchParams.get("name") ?? "world";
		return Response.json({ greeting: `${env.GREETING ?? "Hello"}, ${name}` });
	},
};
