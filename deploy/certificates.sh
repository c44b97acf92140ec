#!/bin/sh
# Makes certificates for a broker with openssl, in the folder where it is called:
#
#   ./certificates.sh ca                                  # once: ca.pem, ca.key
#   ./certificates.sh server broker.example 192.0.2.10    # server.pem, server.key
#   ./certificates.sh hall 371003/wendeng                 # 371003-wendeng.pem, .key
#
# server takes all names and addresses by which halls and other servers reach it,
# the one of the load balancer, too. ca.pem goes to every hall (broker.ca_file).
# ca.key stays off the brokers: who has it can pass for any of them. hall is only
# for brokers that ask halls for certificates.
set -eu
umask 077

# issue FILE NAME EXTENSIONS
issue() {
  openssl ecparam -genkey -name prime256v1 -noout -out "$1.key"
  printf '%s\n' "$3" >"$1.ext"
  openssl req -new -key "$1.key" -subj "/CN=$2" |
    openssl x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 825 -sha256 -extfile "$1.ext" -out "$1.pem" 2>"$1.log" ||
    { cat "$1.log" >&2; exit 1; }
  rm -f "$1.ext" "$1.log"
}

case "${1:-}" in
ca)
  [ ! -e ca.key ] || { echo "ca.key is there already: a new one would end all certificates made with it" >&2; exit 1; }
  openssl ecparam -genkey -name prime256v1 -noout -out ca.key
  openssl req -x509 -new -key ca.key -sha256 -days 3650 -subj "/CN=halls broker authority" -out ca.pem
  ;;
server)
  shift
  names=
  for n; do
    case $n in
    *:*) names="$names,IP:$n" ;; # of IPv6
    *[!0-9.]*) names="$names,DNS:$n" ;;
    *) names="$names,IP:$n" ;;
    esac
  done
  # Servers of a cluster are clients of one another.
  issue server "$1" "subjectAltName=${names#,}
extendedKeyUsage=serverAuth,clientAuth"
  ;;
hall)
  issue "$(echo "$2" | tr / -)" "$(echo "$2" | sed 's,/,\\/,')" "extendedKeyUsage=clientAuth"
  ;;
*)
  sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
  exit 2
  ;;
esac
