# shellcheck shell=bash
# Mail: Mailpit, an SMTP server that keeps what it gets and shows it over HTTP. One process a mode:
#
#   plain          no TLS, no sign-in
#   starttls       STARTTLS required            starttls-auth   and a sign-in
#   tls            TLS from the first byte      tls-auth        and a sign-in
#
# Needs Go (the version in Mailpit's go.mod: 1.24.3) once, to build it, and openssl for certificates.

MAILPIT_VERSION=v1.27.11
MAIL_MODES=(plain starttls starttls-auth tls tls-auth)
MAIL=$STACK/mail
MAILPIT=$STACK/bin/mailpit-$MAILPIT_VERSION

mail_install() {
  [[ -x $MAILPIT ]] && return
  local go
  go=$(command -v go || command -v /usr/local/go/bin/go) ||
    die "Go is needed to build Mailpit $MAILPIT_VERSION: version 1.24.3 or newer (Debian 13's golang-go)"
  say "building Mailpit $MAILPIT_VERSION with $("$go" env GOVERSION), about a minute"
  mkdir -p "$STACK/bin"
  (cd "$STACK" && GOBIN=$STACK/bin timeout 900 "$go" install "github.com/axllent/mailpit@$MAILPIT_VERSION") >&2 ||
    die "Mailpit could not be built; it needs Go 1.24.3 or newer, here is $("$go" env GOVERSION)"
  mv "$STACK/bin/mailpit" "$MAILPIT"
}

# An authority of our own and a certificate for localhost, both for ten years; and the sign-in.
mail_secrets() {
  local dir=$MAIL/certificates
  [[ -s $dir/server.pem && -s $MAIL/password ]] && return
  command -v openssl > /dev/null || die "openssl is needed to make certificates"
  mkdir -p "$dir"
  (
    umask 077
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
      -subj "/CN=chatd test authority" -addext "basicConstraints=critical,CA:TRUE" \
      -keyout "$dir/ca.key" -out "$dir/ca.pem"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=localhost" \
      -keyout "$dir/server.key" -out "$dir/server.csr"
    printf '%s\n' "subjectAltName=DNS:localhost,IP:127.0.0.1" "basicConstraints=CA:FALSE" \
      "extendedKeyUsage=serverAuth" > "$dir/server.ext"
    openssl rand -hex 12 > "$MAIL/password"
    printf 'chatd:%s\n' "$(cat "$MAIL/password")" > "$MAIL/auth"
    openssl x509 -req -in "$dir/server.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial \
      -days 3650 -extfile "$dir/server.ext" -out "$dir/server.pem"
  ) > "$MAIL/openssl.log" 2>&1 || die "openssl failed, see $MAIL/openssl.log"
}

# mail_start MODE: on ports of its own; tries others when somebody else was faster.
mail_start() {
  local mode=$1 dir=$MAIL/$1 tls=$MAIL/certificates smtp http try
  running "$dir" > /dev/null && return
  mkdir -p "$dir"
  for ((try = 0; try < 5; try++)); do
    smtp=$(free_port)
    http=$(free_port)
    local flags=(--smtp "127.0.0.1:$smtp" --listen "127.0.0.1:$http" --max 5000
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
    if wait_until "$dir" http_ok "$http" /readyz && wait_until "$dir" port_open "$smtp"; then
      printf '%s %s\n' "$smtp" "$http" > "$dir/ports"
      return
    fi
    stop "$dir"
  done
  die "Mailpit ($mode) does not start; the end of $dir/log: $(tail -n 5 "$dir/log")"
}

mail_up() {
  local mode
  mail_install
  mkdir -p "$MAIL"
  mail_secrets
  for mode in "${MAIL_MODES[@]}"; do mail_start "$mode"; done
}

mail_down() {
  local mode
  # All at once: each takes two seconds.
  for mode in "${MAIL_MODES[@]}"; do stop "$MAIL/$mode" & done
  wait
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
    [[ $mode != *-auth ]] || user=chatd:$(cat "$MAIL/password")@
    scheme=smtp
    [[ $mode != tls* ]] || scheme=smtps
    printf 'export SMTP%s_URL=%s://%slocalhost:%s\n' "$name" "$scheme" "$user" "$smtp"
    printf 'export MAILPIT%s_URL=http://127.0.0.1:%s\n' "$name" "$http"
  done
  printf 'export SMTP_CA_FILE=%q\n' "$MAIL/certificates/ca.pem"
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
