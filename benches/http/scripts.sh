#!/usr/bin/env bash
# Compares scripts with the same handler in Node.js's `http` behind reverse_proxy, and with their own plain starts:
#
#     benches/http/scripts.sh [backend [rounds [seconds]]]
#
# Caddy and Node.js share one core, the load generator has the other. The routes take turns in every round, and every answer is
# checked. It prints medians over the rounds of requests per second, of CPU time per request, and the ratios in the same round. It
# needs bin/caddy, node, and npm with a registry.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$(pwd) backend=${1:-wasmtime} rounds=${2:-7} seconds=${3:-2}
work=$root/target/bench/scripts
port=${PORT:-18180} admin=${ADMIN_PORT:-12119} node_port=${NODE_PORT:-18190}
mkdir -p "$work"
(cd benches/http/load && go build -o "$work/load" .)
cd "$work"
test -d node_modules/hono || npm install --silent --no-audit --no-fund --prefix . hono@4.13.19

answer='{"greeting":"Hello, world","number":2,"path":"/x"}'
cat >json.js <<'END'
export default async (request) => {
	const { name, number } = await request.json();
	return Response.json({ greeting: `Hello, ${name}`, number: number + 1, path: "/x" });
};
END
cat >hono.ts <<'END'
import { Hono } from "hono";
const app = new Hono();
app.get("/", (c) => c.text("not this one"));
app.post("/hono/:kind", async (c) => {
	const { name, number } = await c.req.json();
	return c.json({ greeting: `Hello, ${name}`, number: number + 1, path: "/x" });
});
export default app;
END
# This one has answered a request before the snapshot.
sed 's|^export default|await app.request("/");\n&|' hono.ts >routed.ts
cat >node.mjs <<'END'
import { createServer } from "node:http";
createServer((request, response) => {
	const parts = [];
	request.on("data", (part) => parts.push(part));
	request.on("end", () => {
		const { name, number } = JSON.parse(Buffer.concat(parts).toString());
		response.setHeader("Content-Type", "application/json");
		response.end(JSON.stringify({ greeting: `Hello, ${name}`, number: number + 1, path: "/x" }));
	});
}).listen(Number(process.argv[2]), "127.0.0.1");
END
cat >Caddyfile <<END
{
	admin localhost:$admin
	gojinn {
		backend $backend
	}
}
http://127.0.0.1:$port {
	gojinn /json/snapshot $work/json.js {
		name json
	}
	gojinn /json/plain $work/json.js {
		name json-plain
		snapshot off
	}
	gojinn /hono/snapshot $work/hono.ts {
		name hono
	}
	gojinn /hono/plain $work/hono.ts {
		name hono-plain
		snapshot off
	}
	gojinn /hono/routed $work/routed.ts {
		name hono-routed
	}
	reverse_proxy /node 127.0.0.1:$node_port
}
END
taskset -c 0 "$root/bin/caddy" run --config Caddyfile 2>caddy.log &
server=$!
taskset -c 0 node node.mjs "$node_port" &
node=$!
trap 'kill $server $node 2>/dev/null; wait $server $node 2>/dev/null || true' EXIT
for _ in $(seq 600); do
    curl -sf -o /dev/null -d '{"name":"world","number":1}' "http://127.0.0.1:$port/node" && break
    kill -0 $server || { tail -5 caddy.log >&2; exit 1; }
    sleep 0.2
done

cpu_ticks() { awk '{ sub(/^.*\) /, ""); sum += $12 + $13 } END { print sum }' /proc/$server/stat /proc/$node/stat; }
routes=(node json/snapshot json/plain hono/snapshot hono/routed hono/plain)
echo "$backend, load average before: $(cut -d' ' -f1-3 /proc/loadavg)"
: >samples
for round in $(seq 0 "$rounds"); do
    routes=("${routes[@]:1}" "${routes[0]}")
    for route in "${routes[@]}"; do
        before=$(cpu_ticks)
        line=$(taskset -c 1 ./load -url "http://127.0.0.1:$port/$route" -body "$answer" -connections 16 -seconds "$seconds")
        # The first round warms up.
        [ "$round" = 0 ] || echo "$round $route $line $((($(cpu_ticks) - before) * 1000000 / $(getconf CLK_TCK)))" >>samples
    done
done
echo "load average after: $(cut -d' ' -f1-3 /proc/loadavg)"
# samples: round route per_second p50 p90 p99 max count cpu_microseconds
awk '
    function median(list, n,    i, j, t) {
        for (i = 2; i <= n; i++) { t = list[i]; for (j = i - 1; j > 0 && list[j] > t; j--) list[j + 1] = list[j]; list[j + 1] = t }
        return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    function ratio(a, b, least,    r, x, y) {
        for (r = 1; r <= rounds; r++) { x[r] = rate[r, a] / rate[r, b]; y[r] = cpu[r, b] / cpu[r, a] }
        printf "| %s of %s | ≥ %s | %.2f | %.2f |\n", a, b, least, median(x, rounds), median(y, rounds)
    }
    { rate[$1, $2] = $3; p50[$1, $2] = $4; cpu[$1, $2] = $9 / $8; routes[$2]; if ($1 > rounds) rounds = $1 }
    END {
        print "| route | req/s | p50 | CPU per request |"
        print "|---|--:|--:|--:|"
        for (route in routes) {
            for (r = 1; r <= rounds; r++) { a[r] = rate[r, route]; b[r] = p50[r, route]; c[r] = cpu[r, route] }
            printf "| %s | %.0f | %.0f µs | %.0f µs |\n", route, median(a, rounds), median(b, rounds), median(c, rounds)
        }
        print "\n| | goal | by requests per second | by CPU |"
        print "|---|---|--:|--:|"
        ratio("json/snapshot", "node", 0.8); ratio("json/snapshot", "json/plain", 5); ratio("hono/snapshot", "hono/plain", 20)
        ratio("hono/routed", "hono/plain", 20)
    }' samples
