# shellcheck shell=bash
# What is measured. Each part runs on both sides in turn and writes lines of JSON.

# drive COMMAND ARGUMENT…: the driver against the side that runs; its JSON goes to stdout.
drive() {
  local command=$1 path=/ dialect=chatd
  shift
  if [[ $side == node ]]; then dialect=reference; else path=/ws; fi
  "$driver" bench "$command" --dialect "$dialect" --url "ws://$address$path" --json "$@" 2>> "$work/driver.log"
}

# meter: the arguments that count what the side and the services spend.
meter() {
  meter=(--watch "$side=$serve_pid" "${watch_services[@]}" --redis "$redis_address"
    --postgres "$postgres_base/$(database "$side")")
  [[ -z $consume_pid ]] || meter+=(--watch "$side=$consume_pid")
}

# note PART KEY: keeps the lines of JSON on stdin, with what they belong to.
note() {
  local line load
  read -r load _ < /proc/loadavg
  while IFS= read -r line; do
    if [[ $line == '{'* ]]; then
      printf '{"part":"%s","key":"%s","side":"%s","round":%s,"load":%s,"report":%s}\n' "$1" "$2" "$side" "$round" \
        "$load" "$line" >> "$results"
    fi
  done
}

part_load() {
  local rate
  for rate in ${rates//,/ }; do
    for side in ${sides//,/ }; do
      say "$side, $rate messages a second"
      start_side
      meter
      drive pairs --first-id 1 --users "$users" --size 100-200 --rate "$rate" --seconds "$seconds" \
        --warm-up "$warm_up" "${meter[@]}" | note load "$rate" || true
      stop_side
    done
  done
}

part_max() {
  local step=8
  [[ -z $quick ]] || step=3
  for side in ${sides//,/ }; do
    say "$side, its highest rate"
    start_side
    drive max --first-id 1 --users "$users" --size 100-200 --rate 2000 --seconds "$step" --p99 50 \
      --tries 2 | note max "" || true
    stop_side
  done
}

# Everybody stays connected, since a message to somebody who is away is a mail.
part_backlog() {
  local pid
  for side in ${sides//,/ }; do
    say "$side, a backlog of $records messages"
    "${side}_serve"
    drive backlog --first-id 1 --users "$users" --size 100-200 --rate 8000 --records "$records" > "$work/backlog" &
    pid=$!
    while ! grep -q '^piled up' "$work/backlog" && kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
    "${side}_consume"
    wait "$pid" || true
    note backlog "" < "$work/backlog"
    stop_side
  done
}

# 200 messages a pair, written as users would: pair after pair, so that a page is scattered over the table.
part_history() {
  local connections rate=4000
  for side in ${sides//,/ }; do
    say "$side, pages of history"
    start_side
    drive pairs --first-id 15001 --users "$users" --size 100-200 --rate "$rate" --warm-up 0 \
      --seconds $((users * 100 / rate)) > /dev/null || true
    # What was written is settled before it is read.
    sql "$(database "$side")" 'VACUUM ANALYZE'
    for connections in 1 16; do
      meter
      drive history --first-id 15001 --users "$users" --connections "$connections" --limit 50 \
        --seconds "$history_seconds" "${meter[@]}" | note history "$connections" || true
    done
    stop_side
  done
}

part_idle() {
  local count
  for count in "${sockets[@]}"; do
    for side in ${sides//,/ }; do
      say "$side, $count idle sockets"
      start_side
      meter
      drive idle --first-id 1 --connections "$count" --pid "$serve_pid" --settle 5 --hold "$hold" \
        "${meter[@]}" | note idle "$count" || true
      stop_side
    done
  done
}
