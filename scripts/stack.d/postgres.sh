# shellcheck shell=bash
# PostgreSQL, the newest that is installed below /usr/lib/postgresql (Debian's package `postgresql`).
#
#   DATABASE_URL       a superuser over plain TCP: tests may create databases of their own
#   DATABASE_TLS_URL   the same with sslmode=verify-full
#   DATABASE_CA_FILE   the authority that signed the server's certificate
#
# What it writes is synced to the disk, as in production. pg_stat_statements is loaded where it is installed,
# with its extension in the database `postgres`. PostgreSQL refuses root: for root it runs as `postgres` or
# `nobody`, below /var/tmp where that user cannot enter the stack's folder.

POSTGRES=$STACK/postgres
POSTGRES_AS=()

postgres_programs() {
  local newest
  newest=$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)
  [[ -x $newest ]] || die "PostgreSQL is needed: install Debian's package postgresql"
  POSTGRES_BIN=${newest%/postgres}
}

# Who runs it, and where: sets POSTGRES_AS (a command before commands) and POSTGRES_HOME.
postgres_place() {
  POSTGRES_HOME=$POSTGRES/home
  [[ $EUID == 0 ]] || { mkdir -p "$POSTGRES_HOME"; return 0; }
  local user=postgres
  getent passwd "$user" > /dev/null || user=nobody
  POSTGRES_AS=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups --)
  if ! "${POSTGRES_AS[@]}" test -x "$POSTGRES"; then
    POSTGRES_HOME=/var/tmp/chatd-stack-$(printf '%s' "$STACK" | cksum | cut -d' ' -f1)
  fi
  mkdir -p "$POSTGRES_HOME"
  chmod 700 "$POSTGRES_HOME"
  chown "$user:" "$POSTGRES_HOME"
}

postgres_init() {
  local data=$POSTGRES_HOME/data
  [[ -d $data ]] && return
  say "making a PostgreSQL $(basename "$(dirname "$POSTGRES_BIN")") cluster in $data"
  rm -rf "$data.new"
  (umask 077; password "$POSTGRES" > "$POSTGRES_HOME/password")
  [[ $EUID != 0 ]] || chown --reference="$POSTGRES_HOME" "$POSTGRES_HOME/password"
  (
    cd / && "${POSTGRES_AS[@]}" "$POSTGRES_BIN/initdb" --pgdata="$data.new" --username=chatd \
      --pwfile="$POSTGRES_HOME/password" --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
  ) > "$POSTGRES/initdb.log" 2>&1 || die "initdb failed, see $POSTGRES/initdb.log"
  mv "$data.new" "$data"
}

# Into the home: a key that others can read is refused.
postgres_key() {
  local home=$POSTGRES_HOME
  cp "$STACK/certificates/server.pem" "$STACK/certificates/server.key" "$home/"
  [[ $EUID != 0 ]] || chown --reference="$home" "$home/server.pem" "$home/server.key"
  chmod 600 "$home/server.key"
}

# postgres_sql DATABASE SQL
postgres_sql() {
  local port
  read -r port < "$POSTGRES/ports"
  PGPASSWORD=$(password "$POSTGRES") PGCONNECT_TIMEOUT=5 "$POSTGRES_BIN/psql" -X -q -t -A -v ON_ERROR_STOP=1 \
    -h 127.0.0.1 -p "$port" -U chatd -d "$1" -c "$2"
}

postgres_answers() { [[ $(postgres_sql postgres 'SELECT 1' 2> /dev/null) == 1 ]]; }

postgres_start() {
  local try again=
  for ((try = 0; try < 5; try++)); do
    choose_ports "$POSTGRES" 1 $again
    : > "$POSTGRES/log"
    local flags=(-D "$POSTGRES_HOME/data" -p "${PORTS[0]}" -c listen_addresses=127.0.0.1
      -c unix_socket_directories= -c max_connections=200 -c fsync=on -c synchronous_commit=on
      -c ssl=on -c "ssl_cert_file=$POSTGRES_HOME/server.pem" -c "ssl_key_file=$POSTGRES_HOME/server.key")
    [[ ! -e $("$POSTGRES_BIN/pg_config" --pkglibdir)/pg_stat_statements.so ]] ||
      flags+=(-c shared_preload_libraries=pg_stat_statements)
    daemon "$POSTGRES" env -C / "${POSTGRES_AS[@]}" "$POSTGRES_BIN/postgres" "${flags[@]}"
    if wait_until "$POSTGRES" postgres_answers; then return; fi
    stop "$POSTGRES" INT
    # At first the same ports once more: what was killed may not have ended yet.
    ((try < 2)) || again=new
    sleep $((try + 1))
  done
  die "PostgreSQL does not start; the end of $POSTGRES/log: $(tail -n 5 "$POSTGRES/log")"
}

postgres_up() {
  postgres_programs
  mkdir -p "$POSTGRES"
  if running "$POSTGRES" > /dev/null && postgres_answers; then return; fi
  stop "$POSTGRES" INT
  postgres_place
  postgres_init
  postgres_key
  postgres_start
  [[ -n $(postgres_sql postgres "SELECT 1 FROM pg_database WHERE datname = 'chatd'") ]] ||
    postgres_sql postgres 'CREATE DATABASE chatd'
  postgres_sql postgres 'CREATE EXTENSION IF NOT EXISTS pg_stat_statements' 2> /dev/null || true
}

# INT is PostgreSQL's fast shutdown: TERM would wait for its clients.
postgres_down() { stop "$POSTGRES" INT; }

postgres_remove() {
  [[ -d $POSTGRES ]] || return 0
  postgres_place
  rm -rf "$POSTGRES_HOME" "$POSTGRES"
}

postgres_env() {
  local port user
  running "$POSTGRES" > /dev/null || return 0
  read -r port < "$POSTGRES/ports"
  user=chatd:$(password "$POSTGRES")
  tell DATABASE_URL "postgres://$user@127.0.0.1:$port/chatd?sslmode=disable"
  tell DATABASE_TLS_URL "postgres://$user@localhost:$port/chatd?sslmode=verify-full"
  tell DATABASE_CA_FILE "$STACK/certificates/ca.pem"
}

postgres_status() {
  local pid
  if pid=$(running "$POSTGRES"); then
    printf 'postgres            pid %-8s 127.0.0.1:%s\n' "$pid" "$(cat "$POSTGRES/ports")"
  else
    printf 'postgres            down\n'
  fi
}

postgres_pids() { local pid; if pid=$(running "$POSTGRES"); then printf 'postgres %s\n' "$pid"; fi; }
postgres_logs() { [[ ! -f $POSTGRES/log ]] || tail -n 40 "$POSTGRES/log"; }
