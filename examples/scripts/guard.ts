// A guard: lets requests with the right token go on to the next handler, and tells it who asks.
import type { Context, Env } from "./gojinn";

export default (request: Request, env: Env, ctx: Context): Response => {
	const token = /^Bearer (.+)$/.exec(request.headers.get("Authorization") ?? "")?.[1];
	if (!token || token !== env.TOKEN) {
		return new Response("who are you?\n", { status: 401, headers: { "WWW-Authenticate": "Bearer" } });
	}
	return ctx.next({ headers: { "X-User": "operator", Authorization: null }, vars: { user: "operator" } });
};
