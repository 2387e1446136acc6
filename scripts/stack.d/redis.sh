# shellcheck shell=bash
# Redis (Debian's package `redis-server`), which keeps nothing on disk and evicts nothing.
#
#   REDIS_URL           no TLS, no sign-in
#   REDIS_AUTH_URL      no TLS, as a user with a password
#   REDIS_TLS_URL       TLS, no sign-in
#   REDIS_TLS_AUTH_URL  TLS, as a user with a password
#   REDIS_CA_FILE       the authority that signed the server's certificate

REDIS=$STACK/redis

redis_config() {
  printf '%s\n' "bind 127.0.0.1" "port ${PORTS[0]}" "tls-port ${PORTS[1]}" \
    "tls-cert-file \"$STACK/certificates/server.pem\"" "tls-key-file \"$STACK/certificates/server.key\"" \
    "tls-ca-cert-file \"$STACK/certificates/ca.pem\"" "tls-auth-clients no" \
    "dir \"$REDIS\"" "daemonize no" 'save ""' "appendonly no" "maxmemory-policy noeviction" \
    "user chatd on >$(password "$REDIS") ~* &* +@all" > "$REDIS/redis.conf"
}

# It answers PONG on its port.
redis_answers() {
  local port line
  read -r port _ < "$REDIS/ports"
  line=$(
    exec 2> /dev/null
    exec 3<> "/dev/tcp/127.0.0.1/$port"
    printf 'PING\r\n' >&3
    IFS= read -r -t 2 line <&3 && printf '%s' "$line"
  ) || return 1
  [[ $line == +PONG* ]]
}

redis_up() {
  local try again=
  mkdir -p "$REDIS"
  if running "$REDIS" > /dev/null && redis_answers; then return; fi
  command -v redis-server > /dev/null || die "Redis is needed: install Debian's package redis-server"
  stop "$REDIS"
  for ((try = 0; try < 5; try++)); do
    choose_ports "$REDIS" 2 $again
    (umask 077; redis_config)
    : > "$REDIS/log"
    daemon "$REDIS" redis-server "$REDIS/redis.conf"
    if wait_until "$REDIS" redis_answers; then return; fi
    stop "$REDIS"
    # At first the same ports once more: what was killed may not have ended yet.
    ((try < 2)) || again=new
    sleep $((try + 1))
  done
  die "Redis does not start; the end of $REDIS/log: $(tail -n 5 "$REDIS/log")"
}

redis_down() { stop "$REDIS"; }
redis_remove() { rm -rf "$REDIS"; }

redis_env() {
  local plain tls user
  running "$REDIS" > /dev/null || return 0
  read -r plain tls < "$REDIS/ports"
  user=chatd:$(password "$REDIS")
  tell REDIS_URL "redis://127.0.0.1:$plain/0"
  tell REDIS_AUTH_URL "redis://$user@127.0.0.1:$plain/0"
  tell REDIS_TLS_URL "rediss://localhost:$tls/0"
  tell REDIS_TLS_AUTH_URL "rediss://$user@localhost:$tls/0"
  tell REDIS_CA_FILE "$STACK/certificates/ca.pem"
}

redis_status() {
  local pid plain tls
  if pid=$(running "$REDIS"); then
    read -r plain tls < "$REDIS/ports"
    printf 'redis               pid %-8s 127.0.0.1:%s  TLS 127.0.0.1:%s\n' "$pid" "$plain" "$tls"
  else
    printf 'redis               down\n'
  fi
}

redis_pids() { local pid; if pid=$(running "$REDIS"); then printf 'redis %s\n' "$pid"; fi; }
redis_logs() { [[ ! -f $REDIS/log ]] || tail -n 40 "$REDIS/log"; }
