# shellcheck shell=bash
# The two servers and the services behind them. One side runs at a time: `serve` holds sockets, `consume` applies.

serve_pid='' consume_pid='' address=''

services_up() {
  local exports url service pid
  exports=$(scripts/stack up postgres redis kafka)
  eval "$exports"
  redis_address=${REDIS_URL#redis://}
  redis_address=${redis_address%%/*}
  # Without the name of the database.
  url=${DATABASE_URL%%\?*}
  postgres_base=${url%/*}
  # CPU of the services by process tree.
  watch_services=()
  for service in postgres redis kafka; do
    while read -r _ pid; do watch_services+=(--watch "$service=$pid"); done < <(scripts/stack pids "$service")
  done
}

# sql DATABASE SQL
sql() { psql -X -q -t -A -v ON_ERROR_STOP=1 "$postgres_base/$1" -c "$2"; }

# database SIDE: the name of its database in this round; its topics and groups have it too.
database() { printf '%s_%s_%s' "$run" "$1" "$round"; }

# fresh_database SIDE
fresh_database() {
  sql postgres "CREATE DATABASE $(database "$1")"
  sql "$(database "$1")" 'CREATE EXTENSION pg_stat_statements'
}

# forget SIDE: what a round made, so that the next one begins like it.
forget() {
  sql postgres "DROP DATABASE $(database "$1") WITH (FORCE)"
  scripts/stack kafka-tool topics --delete --topic "$(database "$1")\..*" > /dev/null 2>&1 || true
  psql -X -q -t -A "$postgres_base/postgres" -c CHECKPOINT
}

node_install() {
  node_home=$work/node
  mkdir -p "$node_home"
  cp "$NODE_REFERENCE"/*.js "$NODE_REFERENCE"/package*.json "$node_home/"
  chmod -R u+w "$node_home"
  if ! cmp -s "$node_home/package-lock.json" "$node_home/node_modules/installed"; then
    say "installing what the Node reference needs"
    (cd "$node_home" && npm ci --no-audit --no-fund) > "$work/npm.log" 2>&1 || die "npm failed, see $work/npm.log"
    cp "$node_home/package-lock.json" "$node_home/node_modules/installed"
  fi
}

node_env() {
  node_environment=(PATH="$PATH" MODE=tuned PORT="$node_port" JWT_SECRET="$JWT_SECRET"
    DATABASE_URL="$postgres_base/$(database node)" REDIS_URL="redis://$redis_address/1"
    KAFKA_BROKERS="$KAFKA_BROKERS" KAFKA_TOPIC="$(database node).messages" KAFKA_GROUP="$(database node)")
}

node_prepare() {
  node_port=$((30000 + RANDOM % 2000))
  fresh_database node
  node_env
  (cd "$node_home" && exec env -i "${node_environment[@]}" node setup.js 20000) || die "setup.js failed"
}

node_serve() {
  node_env
  : > "$work/serve.log"
  (cd "$node_home" && exec env -i "${node_environment[@]}" node server.js) > "$work/serve.log" 2>&1 &
  serve_pid=$!
  await "$serve_pid" "$work/serve.log" ' pid '
  address=127.0.0.1:$node_port
}

node_consume() {
  : > "$work/consume.log"
  (cd "$node_home" && exec env -i "${node_environment[@]}" node consumer.js) > "$work/consume.log" 2>&1 &
  consume_pid=$!
}

node_consuming() { await "$consume_pid" "$work/consume.log" joined; }

chatd_prepare() {
  fresh_database chatd
  rm -rf "$work/data"
}

# chatd_role NAME: in an empty folder, so that no chatd.toml and no .env is read.
chatd_role() {
  mkdir -p "$work/data/$1"
  # Now, not when the process begins: what one before it said must not be taken for its own.
  : > "$work/$1.log"
  (
    cd "$work/data/$1" || exit
    exec env -i PATH="$PATH" HOST=127.0.0.1 PORT=0 RUST_LOG=warn JWT_SECRET="$JWT_SECRET" \
      DATABASE_URL="$postgres_base/$(database chatd)?sslmode=disable" REDIS_URL="redis://$redis_address/2" \
      KAFKA_BROKERS="$KAFKA_BROKERS" CHATD_KAFKA__TOPIC_PREFIX="$(database chatd)." \
      CHATD_KAFKA__GROUP="$(database chatd)" CHATD_LIMITS__ENABLED=false "$chatd" "$1" --data data
  ) > "$work/$1.log" 2>&1 &
}

chatd_serve() {
  chatd_role serve
  serve_pid=$!
  await "$serve_pid" "$work/serve.log" ' listens '
  address=$(awk '$1 == "listens" { sub(/,.*/, "", $2); print $2; exit }' "$work/serve.log")
}

chatd_consume() {
  chatd_role consume
  consume_pid=$!
}

chatd_consuming() { await "$consume_pid" "$work/consume.log" ' listens '; }

# await PID LOG WORDS: until a process has said them.
await() {
  local tries
  for ((tries = 0; tries < 600; tries++)); do
    if grep -q -- "$3" "$2"; then return; fi
    kill -0 "$1" 2> /dev/null || break
    sleep 0.1
  done
  die "$side does not start: $(tail -n 5 "$2")"
}

# start_side: both processes of $side, ready.
start_side() {
  "${side}_serve"
  "${side}_consume"
  "${side}_consuming"
  # A group of one has its partitions at once; connections of pools are open.
  sleep 2
}

stop_side() {
  local pid
  for pid in $serve_pid $consume_pid; do kill -TERM "$pid" 2> /dev/null || true; done
  for pid in $serve_pid $consume_pid; do wait "$pid" 2> /dev/null || true; done
  serve_pid='' consume_pid=''
}
