// The types of what Gojinn gives a script besides the interfaces of the web. Copy this file beside your scripts.

/** A key-value store that the Caddyfile gives by `kv`. */
export interface Store {
	get(key: string, type?: "text"): Promise<string | null>;
	get<T = unknown>(key: string, type: "json"): Promise<T | null>;
	get(key: string, type: "bytes"): Promise<Uint8Array | null>;
	get(key: string, type: "arrayBuffer"): Promise<ArrayBuffer | null>;
	/** Sets a value. `ttl` is its time to live in seconds. */
	put(key: string, value: string | ArrayBuffer | ArrayBufferView, options?: { ttl?: number }): Promise<void>;
	delete(key: string): Promise<void>;
	has(key: string): Promise<boolean>;
	list(options?: { prefix?: string; cursor?: string; limit?: number }): Promise<{ keys: string[]; cursor?: string }>;
	/** Adds to a number and returns the sum; a key that does not exist is 0. */
	increment(key: string, delta?: number, options?: { ttl?: number }): Promise<number>;
	/** Sets a value if the present one is `expected` (`null`: if there is none). Returns whether it was set. */
	compareAndSwap(
		key: string,
		expected: string | ArrayBuffer | ArrayBufferView | null,
		value: string | ArrayBuffer | ArrayBufferView,
		options?: { ttl?: number },
	): Promise<boolean>;
}

/** A secret that the Caddyfile gives by `secret`. */
export interface Secret {
	/** The secret as it is now; `null` if it is empty. */
	get(): Promise<string | null>;
}

/** The variables of `env`, the stores and the secrets of the Caddyfile, by their names. */
export interface Env {
	readonly [name: string]: string | Store | Secret | undefined;
}

/** What `ctx.next` changes in the request, or in the response to it. */
export interface Changes {
	method?: string;
	/** Path and query. */
	uri?: string;
	/** Headers to set in the request; `null` deletes one. */
	headers?: Headers | Record<string, string | string[] | null>;
	/** Placeholders for later handlers: `{http.vars.NAME}`. */
	vars?: Record<string, string>;
	/** Headers to set in the response; `null` deletes one. */
	responseHeaders?: Headers | Record<string, string | string[] | null>;
}

export interface Context {
	/** Lets the request go on to Caddy's next handler. Return the result from your handler. */
	next(changes?: Changes): Response;
	/** Keeps the sandbox until the promise is settled. */
	waitUntil(promise: Promise<unknown>): void;
	/** The client's address as Caddy determines it. */
	readonly clientIP: string;
	/** Address and port of the connection. */
	readonly remoteAddress: string;
	readonly traceId: string;
	/** Path and query before all rewrites. */
	readonly originalURI: string;
}

export type FetchHandler<E = Env> = (request: Request, env: E, ctx: Context) => Response | Promise<Response>;

/** The form of a script's default export: `export default { fetch } satisfies Script`. */
export type Script<E = Env> = FetchHandler<E> | { fetch: FetchHandler<E> };
