# shellcheck shell=bash
# Mail: Mailpit, an SMTP server that keeps what it gets and shows it over HTTP. One process a mode:
#
#   plain          no TLS, no sign-in
#   starttls       STARTTLS required            starttls-auth   and a sign-in
#   tls            TLS from the first byte      tls-auth        and a sign-in
#
# SMTP…_URL and MAILPIT…_URL (its HTTP) for each, and SMTP_CA_FILE, the authority of its certificate.
# Needs Go (the version in Mailpit's go.mod: 1.24.3) once, to build it.

MAILPIT_VERSION=v1.27.11
MAIL_MODES=(plain starttls starttls-auth tls tls-auth)
MAIL=$STACK/mail
MAILPIT=$PROGRAMS/mailpit-$MAILPIT_VERSION

mail_install() {
  [[ -x $MAILPIT ]] && return
  local go
  go=$(command -v go || command -v /usr/local/go/bin/go) ||
    die "Go is needed to build Mailpit $MAILPIT_VERSION: version 1.24.3 or newer (Debian 13's golang-go)"
  say "building Mailpit $MAILPIT_VERSION with $("$go" env GOVERSION), about a minute"
  (cd "$PROGRAMS" && GOBIN=$PROGRAMS timeout 900 "$go" install "github.com/axllent/mailpit@$MAILPIT_VERSION") >&2 ||
    die "Mailpit could not be built; it needs Go 1.24.3 or newer, here is $("$go" env GOVERSION)"
  mv "$PROGRAMS/mailpit" "$MAILPIT"
}

# mail_answers MODE: both of its ports do.
mail_answers() {
  local smtp http
  read -r smtp http < "$MAIL/$1/ports" && http_ok "$http" /readyz && port_open "$smtp"
}

# mail_start MODE: on ports of its own; tries others when somebody else was faster.
mail_start() {
  local mode=$1 dir=$MAIL/$1 tls=$STACK/certificates try again=
  mkdir -p "$dir"
  if running "$dir" > /dev/null && mail_answers "$mode"; then return; fi
  stop "$dir"
  for ((try = 0; try < 5; try++)); do
    choose_ports "$dir" 2 $again
    local flags=(--smtp "127.0.0.1:${PORTS[0]}" --listen "127.0.0.1:${PORTS[1]}" --max 5000
      --disable-version-check --smtp-disable-rdns)
    [[ $mode == plain ]] || flags+=(--smtp-tls-cert "$tls/server.pem" --smtp-tls-key "$tls/server.key")
    case $mode in
      starttls*) flags+=(--smtp-require-starttls) ;;
      tls*) flags+=(--smtp-require-tls) ;;
    esac
    [[ $mode != *-auth ]] || flags+=(--smtp-auth-file "$MAIL/auth")
    # The mails of one that was killed: Mailpit removes them itself when it ends in order.
    rm -f "$dir"/mailpit-*.db*
    : > "$dir/log"
    # Without the environment: Mailpit takes MP_… variables for settings.
    daemon "$dir" env -i "PATH=$PATH" "HOME=$dir" "TMPDIR=$dir" "$MAILPIT" "${flags[@]}"
    if wait_until "$dir" mail_answers "$mode"; then return; fi
    stop "$dir"
    # At first the same ports once more: what was killed may not have ended yet.
    ((try < 2)) || again=new
    sleep $((try + 1))
  done
  die "Mailpit ($mode) does not start; the end of $dir/log: $(tail -n 5 "$dir/log")"
}

mail_up() {
  local mode
  [[ -x $MAILPIT ]] || installing mail_install
  mkdir -p "$MAIL"
  (umask 077; printf 'chatd:%s\n' "$(password "$MAIL")" > "$MAIL/auth")
  for mode in "${MAIL_MODES[@]}"; do mail_start "$mode"; done
}

mail_down() {
  local mode
  # All at once: each takes two seconds.
  for mode in "${MAIL_MODES[@]}"; do stop "$MAIL/$mode" & done
  wait
}

mail_remove() { rm -rf "$MAIL"; }

mail_pids() {
  local mode pid
  for mode in "${MAIL_MODES[@]}"; do
    if pid=$(running "$MAIL/$mode"); then printf '%s %s\n' "$mode" "$pid"; fi
  done
}

mail_env() {
  local mode smtp http name user scheme
  for mode in "${MAIL_MODES[@]}"; do
    running "$MAIL/$mode" > /dev/null || continue
    read -r smtp http < "$MAIL/$mode/ports"
    name=
    [[ $mode == plain ]] || name=_${mode^^}
    name=${name//-/_}
    user=
    [[ $mode != *-auth ]] || user=chatd:$(password "$MAIL")@
    scheme=smtp
    [[ $mode != tls* ]] || scheme=smtps
    tell "SMTP${name}_URL" "$scheme://${user}localhost:$smtp"
    tell "MAILPIT${name}_URL" "http://127.0.0.1:$http"
  done
  tell SMTP_CA_FILE "$STACK/certificates/ca.pem"
}

mail_status() {
  local mode pid smtp http
  for mode in "${MAIL_MODES[@]}"; do
    if pid=$(running "$MAIL/$mode"); then
      read -r smtp http < "$MAIL/$mode/ports"
      printf 'mail %-14s pid %-8s SMTP 127.0.0.1:%s  http://127.0.0.1:%s\n' "$mode" "$pid" "$smtp" "$http"
    else
      printf 'mail %-14s down\n' "$mode"
    fi
  done
}

mail_logs() {
  local mode
  for mode in "${MAIL_MODES[@]}"; do
    [[ -f $MAIL/$mode/log ]] || continue
    printf '== %s\n' "$mode"
    tail -n 40 "$MAIL/$mode/log"
  done
}
