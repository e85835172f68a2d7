// A clock as server-sent events: one event each second, as long as the browser listens.
//
//   gojinn /clock ./clock.ts {
//   	timeout 1h
//   }
//
// In a page: new EventSource("/clock").onmessage = (event) => console.log(event.data);
const sleep = (milliseconds: number) => new Promise((done) => setTimeout(done, milliseconds));

export default (request: Request): Response => {
	const every = Number(new URL(request.url).searchParams.get("every") ?? 1000);
	if (!(every >= 10)) return new Response("every is in milliseconds, 10 at least\n", { status: 400 });
	let id = 0;
	// pull is called whenever the client has taken what came before, so a slow client gets fewer events and not late ones.
	const events = new ReadableStream({
		async pull(controller) {
			if (id > 0) await sleep(every);
			controller.enqueue(`id: ${++id}\ndata: ${new Date().toISOString()}\n\n`);
		},
	});
	return new Response(events.pipeThrough(new TextEncoderStream()), {
		headers: { "Content-Type": "text/event-stream", "Cache-Control": "no-store" },
	});
};
