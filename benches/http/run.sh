#!/usr/bin/env bash
# Benchmarks a whole Caddy: compares functions with `respond`, and Go functions (plain, parked, warmed) with `reverse_proxy` to a
# native Go daemon, in one run. `next` in front of `respond` is compared with `respond`, and a guest of http-wasm with the same
# guest in a Caddy whose handler is the library of Traefik (pooled/). There the Go function runs on wazero, too, with an instance
# for each request.
#
#     benches/http/run.sh [--rounds N] [--seconds S] [--quick] [--only PATTERN] [--profile] [--write]
#
# Caddy has one core and the load generator the other. The routes take turns in every round. The script prints medians over the
# rounds: of each route's requests per second, and of its ratio to `respond` (and to `proxy`) in the same round. There are two
# ratios: of requests per second, and of CPU time per request, which can be compared even if the machine has other load. Every
# answer is checked, and so is how the Go functions start.
# --quick leaves out the other backends. --only measures `respond` and the routes whose names match the pattern of grep -E. --profile also records where Caddy spends its time while it answers the tiny function
# and the warmed one (with perf, or with Go's pprof if there is no perf): target/bench/profile.txt. --write writes the tables to
# docs/benchmarks.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$(pwd)
arguments=${*@Q}
rounds=7 seconds=2 quick= only= profile= write=
while [ $# -gt 0 ]; do
    case $1 in
        --rounds) rounds=$2; shift ;;
        --seconds) seconds=$2; shift ;;
        --quick) quick=1 ;;
        --only) only=$2; shift ;;
        --profile) profile=1 ;;
        --write) write=1 ;;
        *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift
done
connections=16
server_core=0 client_core=1
port=${PORT:-18080} admin=${ADMIN_PORT:-12019} daemon_port=${DAEMON_PORT:-18090}
pooled_port=${POOLED_PORT:-18091} pooled_admin=${POOLED_ADMIN_PORT:-12020}
caddy=$root/bin/caddy
out=$root/target/bench
work=$out/http
mkdir -p "$work"

test -x "$caddy" || { echo "bin/caddy is missing: make caddy builds it" >&2; exit 1; }
for guest in go-hello go-serve; do
    test -f guests/build/$guest.wasm || { echo "guests/build/$guest.wasm is missing: make -C guests go builds it" >&2; exit 1; }
done
test "$(nproc)" -ge 2 || { echo "this needs two cores: one for Caddy, one for the load" >&2; exit 1; }
(cd benches/http/load && go build -o "$work/load" .)
(cd benches/http/daemon && go build -o "$work/daemon" .)
(cd benches/http/pooled && go build -o "$work/pooled" .)
# The examples of http-wasm-host-go are a part of its Go module.
router=$(cd benches/http/pooled && go list -m -f '{{.Dir}}' github.com/http-wasm/http-wasm-host-go)/examples/router.wasm

# A route is a path and, except for `respond` and `proxy`, the name of a function with its backend. Answers must equal the
# expected ones byte for byte. Behind `next-*` and `router-*` is the handler of `respond`; the guest of `answers-*` is that of
# `router-*`, which answers itself. `*-pooled` are in the other Caddy.
routes=(respond c-wasmtime rust-wasmtime go-plain-wasmtime go-parked-wasmtime go-warmed-wasmtime go-looping-wasmtime proxy)
routes+=(next-c-wasmtime router-wasmtime router-pooled answers-wasmtime answers-pooled respond-pooled go-wazero)
# These guests are built only if wabt is installed.
[ ! -f guests/build/wat-hello.wasm ] || routes+=(wat-wasmtime)
[ ! -f guests/build/wat-next.wasm ] || routes+=(next-wat-wasmtime)
[ -n "$quick" ] || routes+=(c-wasmer rust-wasmer go-parked-wasmer go-warmed-wasmer c-wasmi rust-wasmi go-parked-wasmi go-warmed-wasmi)
[ -n "$quick" ] || routes+=(next-c-wasmer router-wasmer next-c-wasmi router-wasmi)
[ -z "$only" ] || routes=(respond $(printf '%s\n' "${routes[@]}" | grep -vx respond | grep -E -- "$only"))
guest_file() {
    case $1 in
        next-c-*) echo "$root/guests/c/next/next.wasm" ;;
        next-wat-*) echo "$root/guests/build/wat-next.wasm" ;;
        router-* | answers-*) echo "$router" ;;
        c-*) echo "$root/guests/c/hello/hello.wasm" ;;
        rust-*) echo "$root/guests/rust/hello/hello.wasm" ;;
        wat-*) echo "$root/guests/build/wat-hello.wasm" ;;
        go-looping-*) echo "$root/guests/build/go-serve.wasm" ;;
        go-*) echo "$root/guests/build/go-hello.wasm" ;;
    esac
}
snapshot() { # route: how its function starts
    case $1 in
        go-plain-*) printf '\t\t\tsnapshot off\n' ;;
        go-parked-*) printf '\t\t\tsnapshot on\n' ;;
        go-warmed-* | go-looping-*) printf '\t\t\tsnapshot on\n\t\t\twarmup 3 %s\n' "$work/sample.json" ;;
    esac
}
kind() { # route: the kind of snapshot that Caddy must report
    case $1 in
        go-plain-*) echo none ;;
        go-parked-*) echo parked ;;
        go-warmed-* | go-looping-*) echo warmed ;;
    esac
}
expected() {
    case $1 in
        c-*) printf 'Hello from C: POST /%s trace=load-1\n' "$1" ;;
        rust-*) printf 'Hello from Rust: POST /%s trace=load-1\n' "$1" ;;
        wat-*) printf 'Hello from wat\n' ;;
        go-* | proxy) printf 'Hello from Go: POST /%s trace=load-1\n' "$1" ;;
        # As long as the answer of the C function.
        respond | respond-pooled | next-* | router-*) printf 'Hello from Caddy: POST /respond trace=load1\n' ;;
        answers-*) printf 'hello world' ;;
    esac
}
url() {
    case $1 in
        # The guest of http-wasm lets paths below /host go on.
        router-pooled) echo "http://127.0.0.1:$pooled_port/host/$1" ;;
        answers-pooled | respond-pooled | go-wazero) echo "http://127.0.0.1:$pooled_port/$1" ;;
        router-*) echo "http://127.0.0.1:$port/host/$1" ;;
        *) echo "http://127.0.0.1:$port/$1" ;;
    esac
}
respond='header Content-Type text/plain
		respond "Hello from Caddy: POST /respond trace=load1
"'

# The sample for warming up: a request like those of the load generator, as functions read it.
cat > "$work/sample.json" <<'END'
{"method":"POST","uri":"/sample","headers":{"Accept":["*/*"],"Content-Length":["27"],"Content-Type":["application/json"],"Host":["127.0.0.1"],"User-Agent":["load"],"X-Request-Id":["sample-1"]},"body":"{\"name\":\"world\",\"number\":1}","trace_id":"sample-1"}
END
{
    echo "{"
    echo "	admin localhost:$admin"
    # Access logs are off, which is the default.
    echo "}"
    echo "http://127.0.0.1:$port {"
    for route in "${routes[@]}"; do
        path=$(url "$route")
        case $route in *-pooled | go-wazero) continue ;; esac
        echo "	handle /${path#http://*/} {"
        echo "		route {"
        case $route in
            respond) echo "		$respond" ;;
            proxy) printf '\t\treverse_proxy 127.0.0.1:%s\n' "$daemon_port" ;;
            *)
                printf '\t\tgojinn {\n\t\t\tmodule %s\n\t\t\tname %s\n\t\t\tbackend %s\n' "$(guest_file "$route")" "$route" "${route##*-}"
                snapshot "$route"
                case $route in router-* | answers-*) printf '\t\t\tcontract http-wasm\n' ;; esac
                printf '\t\t}\n'
                case $route in next-* | router-* | answers-*) echo "		$respond" ;; esac
                ;;
        esac
        echo "		}"
        echo "	}"
    done
    echo "}"
} > "$work/Caddyfile"
{
    printf '{\n\tadmin localhost:%s\n}\n' "$pooled_admin"
    echo "http://127.0.0.1:$pooled_port {"
    printf '\trespond /up up\n'
    for route in "${routes[@]}"; do
        path=$(url "$route")
        case $route in
            *-pooled | go-wazero)
                echo "	handle /${path#http://*/} {"
                echo "		route {"
                case $route in
                    go-wazero) echo "		wazero_instances * $(guest_file "$route")" ;;
                    router-* | answers-*) echo "		http_wasm_pooled * $router" ;;
                esac
                echo "		$respond"
                echo "		}"
                echo "	}"
                ;;
        esac
    done
    echo "}"
} > "$work/pooled.Caddyfile"

pids=()
stop() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
}
trap stop EXIT
# GOMAXPROCS is 1, because Go reads the CPU mask.
taskset -c $server_core "$caddy" run --config "$work/Caddyfile" --adapter caddyfile 2> "$work/caddy.log" &
server=$!
pids+=($server)
# The daemon shares Caddy's core, because it is a part of the server.
taskset -c $server_core "$work/daemon" "127.0.0.1:$daemon_port" &
daemon=$!
pids+=($daemon)
# The other Caddy has the same core. It does nothing while a route of the first one is measured, and the other way round.
taskset -c $server_core "$work/pooled" run --config "$work/pooled.Caddyfile" --adapter caddyfile 2> "$work/pooled.log" &
pooled=$!
pids+=($pooled)
await() { # url, process, log
    for _ in $(seq 600); do
        if curl -s -o /dev/null "$1"; then return; fi
        kill -0 "$2" 2>/dev/null || { tail -5 "$3" >&2; exit 1; }
        sleep 0.2
    done
    echo "Caddy does not answer; see $3" >&2
    exit 1
}
await "http://127.0.0.1:$port/respond" $server "$work/caddy.log"
await "http://127.0.0.1:$pooled_port/up" $pooled "$work/pooled.log"

# Leave out functions that do not start as their names say.
all=("${routes[@]}") routes=()
for route in "${all[@]}"; do
    kind=$(kind "$route")
    facts=$(curl -s "http://localhost:$admin/gojinn/functions" | tr '{' '\n' | grep "\"name\":\"$route\"" || true)
    case $kind,$facts in
        ,* | *"\"snapshot\":\"$kind\""*) routes+=("$route") ;;
        *) echo "left out: $route, which must be $kind; Caddy says: $facts" >&2 ;;
    esac
done

ask() { # route, seconds
    # The command substitution would remove the last newline.
    local body
    body=$(expected "$1"; printf .)
    taskset -c $client_core "$work/load" -url "$(url "$1")" -body "${body%.}" -connections $connections -seconds "$2"
}
# CPU time of both Caddys and the daemon together, because a proxied request uses two of them.
cpu_ticks() { awk '{ sub(/^.*\) /, ""); sum += $12 + $13 } END { print sum }' /proc/$server/stat /proc/$daemon/stat /proc/$pooled/stat; }

load_before=$(cut -d' ' -f1-3 /proc/loadavg)
echo "load average before: $load_before"
for route in "${routes[@]}"; do ask "$route" 0.5 > /dev/null; done
: > "$work/samples"
for round in $(seq "$rounds"); do
    # The route that was first goes last in the next round.
    routes=("${routes[@]:1}" "${routes[0]}")
    for route in "${routes[@]}"; do
        before=$(cpu_ticks)
        line=$(ask "$route" "$seconds")
        after=$(cpu_ticks)
        echo "$round $route $line $(((after - before) * 1000000 / $(getconf CLK_TCK)))" >> "$work/samples"
    done
    echo "round $round of $rounds"
done
echo "load average after: $(cut -d' ' -f1-3 /proc/loadavg)"

# samples: round route per_second p50 p90 p99 max count cpu_microseconds
awk -v goals="$out/http-goals.md" '
    function median(list, n,    i, j, t) {
        for (i = 2; i <= n; i++) { t = list[i]; for (j = i - 1; j > 0 && list[j] > t; j--) list[j + 1] = list[j]; list[j + 1] = t }
        return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    function of(route, other,    r, ratios) {
        for (r = 1; r <= rounds; r++) ratios[r] = rate[r SUBSEP route] / rate[r SUBSEP other]
        return median(ratios, rounds)
    }
    function by_cpu(route, other,    r, ratios) {
        for (r = 1; r <= rounds; r++) ratios[r] = cpu[r SUBSEP route] > 0 ? cpu[r SUBSEP other] / cpu[r SUBSEP route] : 0
        return median(ratios, rounds)
    }
    function goal(route, other, least,    ratio) {
        if (!(route in routes) || !(other in routes)) return
        ratio = of(route, other)
        printf "| %s of `%s` | ≥ %.2f | %.2f | %.2f | %s |\n", route, other, least, ratio, by_cpu(route, other), (ratio >= least ? "yes" : "**no**") > goals
    }
    { key = $1 SUBSEP $2; rate[key] = $3; p50[key] = $4; p99[key] = $6; cpu[key] = $9 / $8; routes[$2]; if ($1 > rounds) rounds = $1 }
    END {
        print "| route | req/s | of `respond` | of `proxy` | of `respond` by CPU | p50 | p99 | CPU per request |"
        print "|---|--:|--:|--:|--:|--:|--:|--:|"
        order = "respond wat-wasmtime c-wasmtime rust-wasmtime go-plain-wasmtime go-parked-wasmtime go-warmed-wasmtime go-looping-wasmtime c-wasmer rust-wasmer go-parked-wasmer go-warmed-wasmer c-wasmi rust-wasmi go-parked-wasmi go-warmed-wasmi proxy next-wat-wasmtime next-c-wasmtime router-wasmtime answers-wasmtime next-c-wasmer router-wasmer next-c-wasmi router-wasmi router-pooled answers-pooled respond-pooled go-wazero"
        count = split(order, names, " ")
        for (n = 1; n <= count; n++) {
            route = names[n]
            if (!(route in routes)) continue
            for (r = 1; r <= rounds; r++) {
                key = r SUBSEP route
                a[r] = rate[key]; c[r] = p50[key]; d[r] = p99[key]; e[r] = cpu[key]
            }
            printf "| %s | %.0f | %.2f | %s | %.2f | %.0f µs | %.0f µs | %.1f µs |\n", route, median(a, rounds), of(route, "respond"), ("proxy" in routes ? sprintf("%.2f", of(route, "proxy")) : ""), by_cpu(route, "respond"), median(c, rounds), median(d, rounds), median(e, rounds)
        }
        print "| requests per second | goal | ratio | ratio by CPU | met |" > goals
        print "|---|---|--:|--:|---|" > goals
        goal("c-wasmtime", "respond", 0.7); goal("rust-wasmtime", "respond", 0.7)
        goal("next-wat-wasmtime", "respond", 0.6)
        goal("router-wasmtime", "router-pooled", 2); goal("answers-wasmtime", "answers-pooled", 2)
        goal("go-parked-wasmtime", "proxy", 0.45); goal("go-warmed-wasmtime", "proxy", 1.1); goal("go-looping-wasmtime", "proxy", 1.1)
        goal("go-parked-wasmtime", "go-wazero", 25); goal("go-warmed-wasmtime", "go-wazero", 60)
    }' "$work/samples" | tee "$out/http.md"
echo
cat "$out/http-goals.md"

profile_of() { # route: records Caddy while it answers it, into $work/$route.data
    ask "$1" 6 > /dev/null &
    local load=$!
    sleep 0.5
    perf record -o "$work/$1.data" -F 1999 -g -p $server -- sleep 5 > /dev/null 2>&1 || { kill $load; wait $load || true; return 1; }
    wait $load
}
parts_of() { # route: share of each part of the program, by the symbol the processor was in
    perf report -i "$work/$1.data" --no-children -g none --sort dso,symbol --stdio --field-separator '|' 2> /dev/null | awk -F'|' '
        # What a symbol belongs to; the first that fits.
        /^#/ || NF < 3 { next }
        {
            share = $1 + 0; dso = $2; name = $3; sub(/^ *\[.\] */, "", name); gsub(/ +$/, "", name); gsub(/^ +| +$/, "", dso)
            if (dso ~ /kernel/) part = "kernel"
            else if (dso ~ /JIT|anon|memfd/) part = "guest code"
            else if (dso ~ /libc|vdso|ld-linux/) part = "libc, vdso"
            else if (name ~ /^<?(wasmtime|backend_wasmtime)/) part = "Rust: wasmtime and its backend"
            else if (name ~ /engine_core/) part = "Rust: engine-core"
            else if (name ~ /^gojinn_|::/) part = "Rust: ABI, library"
            else if (name ~ /pauloappbr/) part = "Go: the plugin"
            else if (name ~ /cgo|asmcgocall|entersyscall|exitsyscall/) part = "Go: cgo and system calls"
            else if (name ~ /caddyserver/) part = "Go: Caddy"
            else if (name ~ /^(runtime|internal\/runtime)/ && name ~ /malloc|[gG][cC]|scan|Scan|sweep|mark|span|Span|heap|mcache|mcentral|memclr|newobject|growslice|findObject/) part = "Go: memory and garbage"
            else if (name ~ /^(runtime|internal\/runtime)/) part = "Go: scheduling, maps, rest of the runtime"
            else part = "Go: net, net/http, other libraries"
            sum[part] += share
        }
        END { for (part in sum) printf "%s|%.2f\n", part, sum[part] }'
}
inclusive_of() { # route: time below the plugin, with what it made the runtime do
    perf report -i "$work/$1.data" --children -g none --sort symbol --stdio 2> /dev/null |
        awk '/pauloappbr\/gojinn|runtime.cgocall|runtime.gcBgMarkWorker$|caddyhttp.\(\*Server\).ServeHTTP/ && n++ < 25 { sub(/ +- +- *$/, ""); print }'
}
cpu_of() { awk -F'|' -v route=" $1 " '$2 == route { sub(/ µs.*/, "", $9); print $9 + 0 }' "$out/http.md"; }

parts_table() { # route: its parts beside those of respond
    echo
    echo "| part | \`respond\` | $1 | more |"
    echo "|---|--:|--:|--:|"
    { parts_of respond | sed 's/^/respond|/'; parts_of "$1" | sed 's/^/function|/'; } |
        awk -F'|' -v respond="$(cpu_of respond)" -v own="$(cpu_of "$1")" '
            { share[$1, $2] = $3; parts[$2] }
            END { for (part in parts) { a = share["respond", part] * respond / 100; b = share["function", part] * own / 100
                  printf "| %s | %.1f µs | %.1f µs | %+.1f µs |\n", part, a, b, b - a } }' | sort -t'|' -k5 -rn
}
details_of() { # route
    printf '\n%s with what is called below: inclusive, self\n' "$1"
    inclusive_of "$1"
    printf '\n%s by symbol, self time\n' "$1"
    perf report -i "$work/$1.data" --no-children -g none --sort dso,symbol --stdio 2> /dev/null |
        awk '!/^#/ && NF && n++ < 60 { sub(/ +- +- *$/, ""); print }'
}

if [ -n "$profile" ]; then
    profiled=()
    for route in c-wasmtime next-c-wasmtime router-wasmtime go-warmed-wasmtime; do
        case " ${routes[*]} " in *" $route "*) profiled+=($route) ;; esac
    done
    : > "$out/profile.md"
    : > "$out/profile.txt"
    if command -v perf > /dev/null && profile_of respond; then
        for route in "${profiled[@]}"; do
            profile_of "$route" || continue
            parts_table "$route" >> "$out/profile.md"
            details_of "$route" >> "$out/profile.txt"
        done
    fi
    if [ -s "$out/profile.md" ]; then
        { echo "Where Caddy's CPU time for one request goes (self time, perf):"; cat "$out/profile.md"; } > "$work/profile.md"
        mv "$work/profile.md" "$out/profile.md"
        cat "$out/profile.md"
    else
        rm -f "$out/profile.md"
        for route in "${profiled[@]}"; do
            ask "$route" 7 > /dev/null &
            load=$!
            curl -s -o "$work/caddy.pprof" "http://localhost:$admin/debug/pprof/profile?seconds=5"
            echo "pprof, Caddy answering $route (C and Rust are one line: runtime.cgocall)"
            go tool pprof -top -nodecount 60 "$caddy" "$work/caddy.pprof" 2> /dev/null
            wait $load || true
        done > "$out/profile.txt"
    fi
    echo "more: target/bench/profile.txt"
fi

if [ -n "$write" ]; then
    page=docs/benchmarks.md
    touch $page
    block=http title="Through Caddy" command="make bench-http" outdated=(-e '/^<!-- http-part -->$/,/^<!-- \/http-part -->$/d')
    # A whole run has all rows, so it replaces those of a part, too.
    if [ -n "$only" ]; then block=http-part title="Through Caddy, some routes" command="benches/http/run.sh $arguments"
    else outdated+=(-e '/^<!-- http -->$/,/^<!-- \/http -->$/d'); fi
    {
        sed "${outdated[@]}" $page
        echo "<!-- $block -->"
        echo "## $title"
        echo
        # Lines of prose, for a page that is read.
        {
            echo "One core for Caddy and the daemon behind \`proxy\`, one for the load, $connections connections, JSON POST, every answer checked; medians of $rounds rounds of $seconds s."
            echo "Machine: $(nproc) cores, Linux $(uname -r), $(go version | cut -d' ' -f3), Caddy $("$caddy" version | cut -d' ' -f1). Load average before: $load_before. Command: \`$command\`."
        } | fold -s -w 118 | sed 's/ $//'
        echo
        cat "$out/http-goals.md"
        echo
        cat "$out/http.md"
        if [ -n "$profile" ] && [ -f "$out/profile.md" ]; then echo; cat "$out/profile.md"; fi
        echo "<!-- /$block -->"
    } > "$work/page.md"
    mv "$work/page.md" $page
    echo "docs/benchmarks.md is written"
fi
