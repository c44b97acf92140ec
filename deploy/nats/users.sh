#!/bin/sh
# Prints users.conf from a password file that htpasswd keeps:
#
#   htpasswd -B -C 11 passwords 371003/wendeng    # asks for the password; -D deletes
#   ./users.sh passwords > users.new && mv users.new users.conf
#   nats-server --signal reload
#
# A user whose name is an area, a slash and a hall is that hall's agent; queue,
# forms and reader are the central services and an example of a reader from
# outside. Any other name is refused. The rights are those of ../mosquitto/acl: a
# slash of a topic is a dot here, a plus is a star. $MQTT.sub is how the gateway
# brings a client what it has subscribed to; without it every SUBSCRIBE with QoS 1
# is refused. A client cannot name it itself, if it may speak nothing but MQTT:
# that is why each user is kept to that.
set -eu
exec awk -F: '
function list(prefix, words,    n, i, w, out) {
  n = split(words, w, " ")
  for (i = 1; i <= n; i++) out = out (i > 1 ? ", " : "") "\"" prefix w[i] "\""
  return out
}
function user(prefix, publish, subscribe) {
  printf "  {user: \"%s\", password: \"%s\", allowed_connection_types: [\"MQTT\"], permissions: {\n", $1, $2
  if (publish == "") printf "    publish: {deny: \">\"}\n"
  else printf "    publish: {allow: [%s]}\n", list(prefix, publish)
  printf "    subscribe: {allow: [%s, \"$MQTT.sub.>\"]}}}\n", list(prefix, subscribe)
}
BEGIN { every = "hall.v1.*.*."; print "users: [" }
/^$/ || /^#/ { next }
$1 ~ /^[0-9][0-9][0-9][0-9][0-9][0-9]\/[a-z0-9-]+$/ {
  place = $1
  sub("/", ".", place)
  user("hall.v1." place ".", \
    "status devices.* occupancy visits audit lookup.request alarm.*.* result.* echo.*", \
    "echo.* lookup.reply.* ack.* command.*")
  next
}
$1 == "queue" {
  user(every, "ack.visits", "status devices.* occupancy visits alarm.*.*")
  next
}
$1 == "forms" {
  user(every, "lookup.reply.* command.* ack.audit", "status audit lookup.request result.*")
  next
}
$1 == "reader" { user(every, "", "occupancy"); next }
{ print FILENAME ":" FNR ": " $1 " is no user of this system" > "/dev/stderr"; bad = 1; exit }
END { print "]"; exit bad }
' "$1"
