#!/usr/bin/env bash
# Compares two builds of Caddy with a user's function, in one run.
#
#     benches/http/compare.sh <caddy before> <caddy after> <function.wasm> [<rounds> [<seconds>]]
#
# The function is one that answers `Hello from Gojinn! Trace: <trace id>`. Each build serves it parked, and warmed up with the
# default samples, beside `respond` and a `reverse_proxy` to a native Go daemon that parses the JSON of the body. Both Caddys and
# the daemon have one core, the load generator the other; only one Caddy works at a time, and in each round the two take turns on
# each route. Every answer is checked. The script prints medians over the rounds: of the CPU time per request (of Caddy and daemon
# together), and of the times of `respond` and `reverse_proxy` in the same round and build, divided by that of the route.
set -euo pipefail
test $# -ge 3 || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
before=$(realpath "$1") after=$(realpath "$2") module=$(realpath "$3")
rounds=${4:-9} seconds=${5:-2}
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
builds=(before after) routes=(respond proxy parked warmed)
port=${PORT:-18180} daemon_port=${DAEMON_PORT:-18200}
pids=()
stop() {
    for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null && wait "$pid" 2> /dev/null || true; done
    rm -rf "$work"
}
trap stop EXIT
(cd benches/http/load && go build -o "$work/load" .)
(cd benches/http/daemon && go build -o "$work/daemon" .)

declare -A at server
for n in 0 1; do
    build=${builds[n]}
    at[$build]=$((port + n))
    cat > "$work/$build" <<CADDYFILE
{
	admin localhost:$((port + 10 + n))
	storage file_system $work/storage-$build
	gojinn {
		cache off
	}
}
http://127.0.0.1:${at[$build]} {
	handle /respond {
		header Content-Type text/plain
		respond "Hello from Gojinn! Trace: load-1"
	}
	handle /proxy {
		reverse_proxy 127.0.0.1:$daemon_port
	}
	handle /parked {
		gojinn {
			module $module
			name parked
			snapshot on
		}
	}
	handle /warmed {
		gojinn {
			module $module
			name warmed
			warmup 3
		}
	}
}
CADDYFILE
    # GOMAXPROCS is 1, because Go reads the CPU mask.
    taskset -c 0 "${!build}" run --config "$work/$build" --adapter caddyfile 2> "$work/$build.log" &
    server[$build]=$!
    pids+=($!)
done
taskset -c 0 "$work/daemon" -parse "127.0.0.1:$daemon_port" &
daemon=$!
pids+=($daemon)
for build in "${builds[@]}"; do
    for _ in $(seq 300); do
        curl -s -o /dev/null "http://127.0.0.1:${at[$build]}/respond" && break
        sleep 0.2
    done
done
for n in 0 1; do
    facts=$(curl -s "http://localhost:$((port + 10 + n))/gojinn/functions")
    for kind in parked warmed; do
        echo "$facts" | tr '{' '\n' | grep "\"name\":\"$kind\"" | grep -q "\"snapshot\":\"$kind\"" ||
            { echo "${builds[n]}: the function is not $kind: $facts" >&2; exit 1; }
    done
done

ask() { # build, route, seconds
    taskset -c 1 "$work/load" -url "http://127.0.0.1:${at[$1]}/$2" -body "Hello from Gojinn! Trace: load-1" -connections 16 -seconds "$3"
}
ticks() { awk '{ sub(/^.*\) /, ""); sum += $12 + $13 } END { print sum }' "/proc/$1/stat" /proc/$daemon/stat; }

for build in "${builds[@]}"; do
    for route in "${routes[@]}"; do ask "$build" "$route" 0.5 > /dev/null; done
done
for round in $(seq "$rounds"); do
    for route in "${routes[@]}"; do
        for build in "${builds[@]}"; do
            from=$(ticks "${server[$build]}")
            line=$(ask "$build" "$route" "$seconds")
            to=$(ticks "${server[$build]}")
            echo "$round $build $route $line $(((to - from) * 1000000 / $(getconf CLK_TCK)))" >> "$work/samples"
        done
        # The build that was first goes last with the next route.
        builds=("${builds[1]}" "${builds[0]}")
    done
done
# samples: round build route per_second p50 p90 p99 max count cpu_microseconds
awk -v rounds="$rounds" '
    function median(list, n,    i, j, t) {
        for (i = 2; i <= n; i++) { t = list[i]; for (j = i - 1; j > 0 && list[j] > t; j--) list[j + 1] = list[j]; list[j + 1] = t }
        return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    { key = $1 SUBSEP $2 SUBSEP $3; cpu[key] = $10 / $9; rate[key] = $4; p99[key] = $7 }
    END {
        print "| route | build | CPU per request | `respond` by CPU | `proxy` by CPU | req/s of `proxy` | p99 |"
        print "|---|---|--:|--:|--:|--:|--:|"
        split("respond proxy parked warmed", routes, " "); split("before after", builds, " ")
        for (n = 1; n <= 4; n++) for (m = 1; m <= 2; m++) {
            for (r = 1; r <= rounds; r++) {
                key = r SUBSEP builds[m] SUBSEP routes[n]; base = r SUBSEP builds[m] SUBSEP "respond"; proxy = r SUBSEP builds[m] SUBSEP "proxy"
                a[r] = cpu[key]; b[r] = cpu[base] / cpu[key]; c[r] = cpu[proxy] / cpu[key]; d[r] = rate[key] / rate[proxy]; e[r] = p99[key]
            }
            printf "| %s | %s | %.1f µs | %.2f | %.2f | %.2f | %.1f ms |\n", routes[n], builds[m], median(a, rounds), median(b, rounds), median(c, rounds), median(d, rounds), median(e, rounds) / 1000
        }
    }' "$work/samples"
echo "load average: $(cut -d' ' -f1-3 /proc/loadavg)"
