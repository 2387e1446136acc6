# shellcheck shell=bash
# Kafka 4.3.1 in KRaft mode: one broker, or three with KAFKA_NODES=3, each a controller as well. The same
# variables, named KAFKA39_…, come from kafka39, which shares what is here.
#
#   KAFKA_BROKERS            PLAINTEXT: no TLS, no sign-in; host:port, three of them with commas
#   KAFKA_SSL_BROKERS        SSL: TLS without sign-in
#   KAFKA_SASL_BROKERS       SASL_PLAINTEXT: no TLS, sign-in by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
#   KAFKA_SASL_SSL_BROKERS   SASL_SSL: TLS and the same sign-in
#   KAFKA_USER, KAFKA_PASSWORD   for the sign-in
#   KAFKA_CA_FILE            the authority that signed the brokers' certificate
#   KAFKA_LIBS               the folder of its jars: java -cp "$KAFKA_LIBS/*" CLASS
#
# With KAFKA_ADVERTISED=host:port, clients of a single broker without TLS and sign-in are sent there: to a proxy.
#
# Its jars come from Maven, once. Needs a Java runtime, 17 or newer, and mvn. Topics are not made by asking
# for them. A new number of nodes needs `scripts/stack remove kafka` first.

KAFKA=$STACK/kafka
KAFKA_VERSION=4.3.1
KAFKA_MAVEN_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.8.1

# kafka_install VERSION JARS GROUP:ARTIFACT:VERSION…: gets the jars, and counts them.
kafka_install() {
  local version=$1 jars=$2 dir=$PROGRAMS/kafka-$1 new=$PROGRAMS/kafka-$1.new part group artifact found
  shift 2
  [[ -d $dir/libs ]] && return
  command -v mvn > /dev/null || die "Maven is needed to get Kafka: install Debian's package maven"
  say "getting Kafka $version with Maven"
  rm -rf "$new"
  mkdir -p "$new"
  {
    printf '%s' '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>' \
      "<groupId>stack</groupId><artifactId>kafka</artifactId><version>$version</version>" \
      '<packaging>pom</packaging><dependencies>'
    for part in "$@"; do
      IFS=: read -r group artifact part <<< "$part"
      printf '\n<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>' \
        "$group" "$artifact" "$part"
    done
    printf '\n</dependencies></project>\n'
  } > "$new/pom.xml"
  (
    cd "$new"
    timeout 600 mvn -q -B "$KAFKA_MAVEN_PLUGIN:copy-dependencies" -DoutputDirectory="$new/libs"
  ) > "$new/log" 2>&1 ||
    die "Maven could not get Kafka $version, see $new/log: $(tail -n 3 "$new/log")"
  found=$(find "$new/libs" -name '*.jar' -size +0 | wc -l)
  [[ $found == "$jars" ]] || die "Kafka $version has $jars jars, Maven brought $found: see $new"
  rm -rf "$dir"
  mv "$new" "$dir"
}

# Java's logging configuration: what Kafka says goes to stdout, which is the log.
kafka_logging() {
  printf '%s\n' 'appender.out.type=Console' 'appender.out.name=out' 'appender.out.layout.type=PatternLayout' \
    'appender.out.layout.pattern=%d{ISO8601} %p %m (%c{1})%n' 'rootLogger.level=INFO' \
    'rootLogger.appenderRef.out.ref=out' > "$1/log4j2.properties"
  # The one of Kafka 3.9 and ZooKeeper.
  printf '%s\n' 'log4j.rootLogger=INFO, out' 'log4j.appender.out=org.apache.log4j.ConsoleAppender' \
    'log4j.appender.out.layout=org.apache.log4j.PatternLayout' \
    'log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %p %m (%c{1})%n' > "$1/log4j.properties"
}

# kafka_java VERSION HEAP FOLDER CLASS…: the command line into the array JAVA_COMMAND.
kafka_java() {
  local version=$1 heap=$2 folder=$3
  shift 3
  command -v java > /dev/null || die "Java 17 or newer is needed to run Kafka: install Debian's default-jre-headless"
  JAVA_COMMAND=(java "-Xmx$heap" "-Dlog4j2.configurationFile=$folder/log4j2.properties"
    "-Dlog4j.configuration=file:$folder/log4j.properties" -cp "$PROGRAMS/kafka-$version/libs/*" "$@")
}

# kafka_settings LISTENERS SECRET COPIES: what both versions share. LISTENERS as in `listeners`; SECRET is the
# password of the user chatd; COPIES the number of brokers that hold Kafka's own topics.
kafka_settings() {
  local listeners=$1 secret=$2 copies=$3 kind prefix security=org.apache.kafka.common.security
  local in_sync=$((copies > 1 ? 2 : 1)) advertised=$listeners
  [[ -z ${KAFKA_ADVERTISED:-} ]] || advertised=PLAINTEXT://$KAFKA_ADVERTISED,${listeners#*,}
  printf '%s\n' "advertised.listeners=$advertised" "inter.broker.listener.name=PLAINTEXT" \
    "ssl.keystore.type=PEM" "ssl.keystore.location=$STACK/certificates/server.both.pem" \
    "auto.create.topics.enable=false" "group.initial.rebalance.delay.ms=0" \
    "offsets.topic.num.partitions=6" "offsets.topic.replication.factor=$copies" \
    "transaction.state.log.num.partitions=3" "transaction.state.log.replication.factor=$copies" \
    "transaction.state.log.min.isr=$in_sync" "default.replication.factor=$copies" \
    "min.insync.replicas=$in_sync" "log.index.size.max.bytes=1048576"
  for kind in sasl_plaintext sasl_ssl; do
    prefix=listener.name.$kind
    printf '%s\n' "$prefix.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512" \
      "$prefix.plain.sasl.jaas.config=$security.plain.PlainLoginModule required user_chatd=\"$secret\";" \
      "$prefix.scram-sha-256.sasl.jaas.config=$security.scram.ScramLoginModule required;" \
      "$prefix.scram-sha-512.sasl.jaas.config=$security.scram.ScramLoginModule required;"
  done
}

# kafka_listeners PORT…: the four that clients use.
kafka_listeners() {
  local kind list=
  for kind in PLAINTEXT SSL SASL_PLAINTEXT SASL_SSL; do
    list+=,$kind://127.0.0.1:$1
    shift
  done
  printf '%s\n' "${list#,}"
}

# kafka_exports PREFIX FOLDER VERSION STRIDE: of the brokers whose ports stand in FOLDER/ports, STRIDE each.
kafka_exports() {
  local prefix=$1 folder=$2 version=$3 stride=$4 kind i n=0 list ports
  read -r -a ports < "$folder/ports"
  for kind in '' SSL_ SASL_ SASL_SSL_; do
    list=
    for ((i = n; i < ${#ports[@]}; i += stride)); do list+=,127.0.0.1:${ports[i]}; done
    tell "${prefix}_${kind}BROKERS" "${list#,}"
    n=$((n + 1))
  done
  tell "${prefix}_USER" chatd
  tell "${prefix}_PASSWORD" "$(password "$folder")"
  tell "${prefix}_CA_FILE" "$STACK/certificates/ca.pem"
  tell "${prefix}_LIBS" "$PROGRAMS/kafka-$version/libs"
}

# kafka_configure NODES SECRET: server.properties of each node, for the ports in PORTS.
kafka_configure() {
  local nodes=$1 secret=$2 node voters='' listeners map=CONTROLLER:PLAINTEXT kind
  for kind in PLAINTEXT SSL SASL_PLAINTEXT SASL_SSL; do map+=,$kind:$kind; done
  for ((node = 1; node <= nodes; node++)); do voters+=,$node@127.0.0.1:${PORTS[node * 5 - 1]}; done
  for ((node = 1; node <= nodes; node++)); do
    listeners=$(kafka_listeners "${PORTS[@]:node * 5 - 5:4}")
    mkdir -p "$KAFKA/$node"
    kafka_logging "$KAFKA/$node"
    {
      kafka_settings "$listeners" "$secret" "$nodes"
      printf '%s\n' "process.roles=broker,controller" "node.id=$node" "log.dirs=$KAFKA/$node/data" \
        "listeners=$listeners,CONTROLLER://127.0.0.1:${PORTS[node * 5 - 1]}" \
        "controller.listener.names=CONTROLLER" "controller.quorum.voters=${voters#,}" \
        "listener.security.protocol.map=$map" \
        "share.coordinator.state.topic.num.partitions=1" \
        "share.coordinator.state.topic.replication.factor=$nodes" \
        "share.coordinator.state.topic.min.isr=$((nodes > 1 ? 2 : 1))"
    } > "$KAFKA/$node/server.properties"
  done
}

# kafka_format NODE SECRET: makes the folder of its data, once; the SCRAM users are made with it.
kafka_format() {
  local dir=$KAFKA/$1
  [[ -e $dir/formatted ]] && return
  rm -rf "$dir/data"
  kafka_java "$KAFKA_VERSION" 256m "$dir" kafka.tools.StorageTool format -t "$(cat "$KAFKA/id")" \
    -c "$dir/server.properties" --add-scram "SCRAM-SHA-256=[name=chatd,password=$2]" \
    --add-scram "SCRAM-SHA-512=[name=chatd,password=$2]"
  "${JAVA_COMMAND[@]}" > "$dir/format.log" 2>&1 || die "Kafka's storage tool failed, see $dir/format.log"
  touch "$dir/formatted"
}

# kafka_answers NODE: it said that it started, and listens.
kafka_answers() {
  local ports
  read -r -a ports < "$KAFKA/ports"
  grep -q 'Kafka Server started' "$KAFKA/$1/log" && port_open "${ports[$1 * 5 - 5]}"
}

# kafka_launch NODES: starts each node that does not run, then waits for all of them.
kafka_launch() {
  local nodes=$1 node heap=512m
  [[ $nodes == 1 ]] || heap=384m
  for ((node = 1; node <= nodes; node++)); do
    running "$KAFKA/$node" > /dev/null && continue
    : > "$KAFKA/$node/log"
    kafka_java "$KAFKA_VERSION" "$heap" "$KAFKA/$node" kafka.Kafka "$KAFKA/$node/server.properties"
    daemon "$KAFKA/$node" "${JAVA_COMMAND[@]}"
  done
  for ((node = 1; node <= nodes; node++)); do
    wait_until "$KAFKA/$node" kafka_answers "$node" || return 1
  done
}

kafka_running() {
  local nodes=$1 node
  for ((node = 1; node <= nodes; node++)); do
    running "$KAFKA/$node" > /dev/null && printf '%s\n' "$node"
  done
  return 0
}

kafka_nodes() { cat "$KAFKA/nodes" 2> /dev/null || printf '%s\n' "${KAFKA_NODES:-1}"; }

kafka_up() {
  local nodes secret node try again=
  nodes=$(kafka_nodes)
  [[ $nodes == [13] ]] || die "KAFKA_NODES is 1 or 3, not '$nodes'"
  [[ ${KAFKA_NODES:-$nodes} == "$nodes" ]] ||
    die "Kafka here has $nodes node(s), not $KAFKA_NODES: scripts/stack remove kafka ends it and removes its data"
  [[ -d $PROGRAMS/kafka-$KAFKA_VERSION/libs ]] || installing kafka_install "$KAFKA_VERSION" 92 \
    "org.apache.kafka:"{kafka_2.13,kafka-tools}":$KAFKA_VERSION" org.slf4j:slf4j-api:2.0.20 \
    org.apache.logging.log4j:{log4j-api,log4j-core,log4j-slf4j2-impl}:2.26.1
  mkdir -p "$KAFKA"
  printf '%s\n' "$nodes" > "$KAFKA/nodes"
  secret=$(password "$KAFKA")
  if [[ ! -s $KAFKA/id ]]; then
    # 16 random bytes in base64, without what an address cannot hold.
    openssl rand -base64 16 | tr '+/' 'ab' | tr -d '=' > "$KAFKA/id.new"
    mv "$KAFKA/id.new" "$KAFKA/id"
  fi
  for ((try = 0; try < 5; try++)); do
    # Nodes that still run keep their ports, which those that do not run were configured with.
    if [[ -z $(kafka_running "$nodes") ]]; then
      choose_ports "$KAFKA" $((nodes * 5)) $again
      (umask 077; kafka_configure "$nodes" "$secret")
    fi
    for ((node = 1; node <= nodes; node++)); do kafka_format "$node" "$secret"; done
    if kafka_launch "$nodes"; then return; fi
    # At first only what ended is started again: it may have been about to end when we looked.
    if ((try > 0)); then
      kafka_down
      again=new
    fi
  done
  die "Kafka does not start; the end of $KAFKA/1/log: $(tail -n 5 "$KAFKA/1/log")"
}

# All at once: one that waits for the others to take over its partitions would wait for long.
kafka_down() {
  local node
  for node in $(kafka_running 3); do stop "$KAFKA/$node" & done
  wait
}

kafka_remove() { rm -rf "$KAFKA"; }

kafka_env() {
  [[ -z $(kafka_running 3) ]] || kafka_exports KAFKA "$KAFKA" "$KAFKA_VERSION" 5
}

kafka_status() {
  local node pid ports
  [[ -s $KAFKA/ports ]] || { printf 'kafka               down\n'; return; }
  read -r -a ports < "$KAFKA/ports"
  for ((node = 1; node <= $(kafka_nodes); node++)); do
    if pid=$(running "$KAFKA/$node"); then
      printf 'kafka %-13s pid %-8s 127.0.0.1:%s\n' "node $node" "$pid" "${ports[node * 5 - 5]}"
    else
      printf 'kafka %-13s down\n' "node $node"
    fi
  done
}

kafka_pids() {
  local node
  for node in $(kafka_running 3); do printf '%s %s\n' "$node" "$(running "$KAFKA/$node")"; done
}

kafka_logs() {
  local log
  for log in "$KAFKA"/[123]/log; do
    [[ -f $log ]] || continue
    printf '== %s\n' "$log"
    tail -n 40 "$log"
  done
}

# kafka_tool NAME ARGUMENT…: one of Kafka's tools, which finds the brokers by itself. Becomes that tool.
kafka_tool() {
  local name=${1:-} class tools=org.apache.kafka.tools
  [[ $# -gt 0 ]] && shift
  case $name in
    topics) class=$tools.TopicCommand ;;
    consumer-groups) class=$tools.consumer.group.ConsumerGroupCommand ;;
    configs) class=kafka.admin.ConfigCommand ;;
    get-offsets) class=$tools.GetOffsetShell ;;
    delete-records) class=$tools.DeleteRecordsCommand ;;
    console-consumer) class=$tools.consumer.ConsoleConsumer ;;
    producer-perf-test) class=$tools.ProducerPerformance ;;
    *) die "kafka-tool has topics consumer-groups configs get-offsets delete-records console-consumer producer-perf-test" ;;
  esac
  [[ -n $(kafka_running 3) ]] || die "Kafka does not run: scripts/stack up kafka"
  [[ -d $PROGRAMS/kafka-$KAFKA_VERSION/libs ]] || die "Kafka's jars are not in $PROGRAMS: set STACK_PROGRAMS as for up"
  local ports
  read -r -a ports < "$KAFKA/ports"
  printf '%s\n' 'appender.out.type=Console' 'appender.out.name=out' 'appender.out.target=SYSTEM_ERR' \
    'rootLogger.level=WARN' 'rootLogger.appenderRef.out.ref=out' > "$KAFKA/log4j2.properties"
  kafka_java "$KAFKA_VERSION" 256m "$KAFKA" "$class" --bootstrap-server "127.0.0.1:${ports[0]}" "$@"
  exec "${JAVA_COMMAND[@]}"
}
