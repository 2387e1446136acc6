# shellcheck shell=bash
# Kafka 3.9.1 with ZooKeeper, for those who still run it. Started only when asked for.
#
#   KAFKA39_…   what kafka exports as KAFKA_…

KAFKA39=$STACK/kafka39
KAFKA39_VERSION=3.9.1

kafka39_configure() {
  local listeners
  listeners=$(kafka_listeners "${PORTS[@]:0:4}")
  mkdir -p "$KAFKA39/zookeeper" "$KAFKA39/broker"
  kafka_logging "$KAFKA39/zookeeper"
  kafka_logging "$KAFKA39/broker"
  printf '%s\n' "dataDir=$KAFKA39/zookeeper/data" "clientPortAddress=127.0.0.1" "clientPort=${PORTS[4]}" \
    "tickTime=1000" "maxClientCnxns=0" "admin.enableServer=false" > "$KAFKA39/zookeeper/zk.properties"
  {
    kafka_settings "$listeners" "$1" 1
    printf '%s\n' "broker.id=1" "zookeeper.connect=127.0.0.1:${PORTS[4]}" \
      "zookeeper.session.timeout.ms=6000" "listeners=$listeners" \
      "log.dirs=$KAFKA39/broker/data"
  } > "$KAFKA39/broker/server.properties"
}

kafka39_answers() {
  local ports
  read -r -a ports < "$KAFKA39/ports"
  grep -q 'KafkaServer id=1\] started' "$KAFKA39/broker/log" && port_open "${ports[0]}"
}

# kafka39_users SECRET: the SCRAM users lie in ZooKeeper, from before the broker's first start.
kafka39_users() {
  [[ -e $KAFKA39/users ]] && return
  kafka_java "$KAFKA39_VERSION" 256m "$KAFKA39/broker" kafka.admin.ConfigCommand \
    --zookeeper "127.0.0.1:${PORTS[4]}" --alter --entity-type users --entity-name chatd \
    --add-config "SCRAM-SHA-256=[password=$1],SCRAM-SHA-512=[password=$1]"
  "${JAVA_COMMAND[@]}" > "$KAFKA39/users.log" 2>&1 || return 1
  touch "$KAFKA39/users"
}

kafka39_launch() {
  local zookeeper=$KAFKA39/zookeeper broker=$KAFKA39/broker try
  : > "$zookeeper/log"
  kafka_java "$KAFKA39_VERSION" 256m "$zookeeper" \
    org.apache.zookeeper.server.quorum.QuorumPeerMain "$zookeeper/zk.properties"
  daemon "$zookeeper" "${JAVA_COMMAND[@]}"
  wait_until "$zookeeper" port_open "${PORTS[4]}" || return 1
  kafka39_users "$1" || return 1
  kafka_java "$KAFKA39_VERSION" 512m "$broker" kafka.Kafka "$broker/server.properties"
  # ZooKeeper keeps the place of one that was killed for the six seconds of its session.
  for ((try = 0; try < 4; try++)); do
    : > "$broker/log"
    daemon "$broker" "${JAVA_COMMAND[@]}"
    if wait_until "$broker" kafka39_answers; then return; fi
    sleep 2
  done
  return 1
}

kafka39_up() {
  local secret try again=
  [[ -d $PROGRAMS/kafka-$KAFKA39_VERSION/libs ]] || installing kafka_install "$KAFKA39_VERSION" 105 \
    "org.apache.kafka:"{kafka_2.13,kafka-tools}":$KAFKA39_VERSION"
  if running "$KAFKA39/zookeeper" > /dev/null && running "$KAFKA39/broker" > /dev/null && kafka39_answers; then
    return
  fi
  mkdir -p "$KAFKA39"
  secret=$(password "$KAFKA39")
  # Both or none: a broker whose ZooKeeper was away for longer than its session ends by itself.
  for ((try = 0; try < 5; try++)); do
    kafka39_down
    choose_ports "$KAFKA39" 5 $again
    (umask 077; kafka39_configure "$secret")
    if kafka39_launch "$secret"; then return; fi
    # At first the same ports once more: what was killed may not have ended yet.
    ((try < 2)) || again=new
    sleep $((try + 1))
  done
  die "Kafka $KAFKA39_VERSION does not start; the end of $KAFKA39/broker/log: $(tail -n 5 "$KAFKA39/broker/log")"
}

kafka39_down() {
  stop "$KAFKA39/broker"
  stop "$KAFKA39/zookeeper"
}

kafka39_remove() { rm -rf "$KAFKA39"; }

kafka39_env() {
  running "$KAFKA39/broker" > /dev/null || return 0
  kafka_exports KAFKA39 "$KAFKA39" "$KAFKA39_VERSION" 5
}

kafka39_status() {
  local part pid ports port
  [[ -s $KAFKA39/ports ]] || { printf 'kafka39             down\n'; return; }
  read -r -a ports < "$KAFKA39/ports"
  for part in zookeeper broker; do
    if pid=$(running "$KAFKA39/$part"); then
      port=${ports[0]}
      [[ $part == broker ]] || port=${ports[4]}
      printf 'kafka39 %-11s pid %-8s 127.0.0.1:%s\n' "$part" "$pid" "$port"
    else
      printf 'kafka39 %-11s down\n' "$part"
    fi
  done
}

kafka39_pids() {
  local part pid
  for part in zookeeper broker; do
    if pid=$(running "$KAFKA39/$part"); then printf '%s %s\n' "$part" "$pid"; fi
  done
}

kafka39_logs() {
  local part
  for part in zookeeper broker; do
    [[ -f $KAFKA39/$part/log ]] || continue
    printf '== %s\n' "$part"
    tail -n 40 "$KAFKA39/$part/log"
  done
}
