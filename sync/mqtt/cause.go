package mqtt

import (
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Stable codes of what is wrong.
const (
	CodeURL          = "url"
	CodeFile         = "file"
	CodeRefused      = "refused"
	CodeUnreachable  = "unreachable"
	CodeTLS          = "tls"
	CodeCredentials  = "bad_credentials"
	CodeClientID     = "client_id"
	CodeUnavailable  = "unavailable"
	CodeSubscription = "subscribe_refused"
	CodeProtocol     = "protocol"
	CodeSilent       = "silent"
	CodeLost         = "lost"
)

const lostHint = "The connection broke: the network, the broker, or another client with the same client id."

// cause gives the code of an error and the operator's hint.
func cause(err error) (code, hint string) {
	var dns *net.DNSError
	var netErr net.Error
	switch {
	case errors.Is(err, errSubscribe):
		return CodeSubscription, "The broker connects this user but refuses to let it subscribe: give it the rights that the broker's ACL sample lists."
	case errors.Is(err, errURL):
		return CodeURL, "Correct broker.url in the configuration."
	case errors.Is(err, errFile):
		return CodeFile, "Check that the file exists, that the service's user may read it, and what is in it; it is read again at each attempt."
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return CodeCredentials, "The broker refuses user name or password: correct broker.username or the password file; it is read again at each attempt."
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return CodeClientID, "The broker refuses the client id: allow it there."
	case errors.Is(err, packets.ErrorRefusedServerUnavailable):
		return CodeUnavailable, "The broker is up but does not serve: ask its operator."
	case errors.Is(err, errProtocol), errors.Is(err, errPanic), errors.Is(err, packets.ErrorRefusedBadProtocolVersion):
		return CodeProtocol, "What answers is not a broker of MQTT 3.1.1: check host and port."
	case errors.Is(err, errTLS):
		return CodeTLS, "Check broker.ca_file, the broker's certificate and its host name, cert_file if it asks for one, and this machine's clock."
	case errors.Is(err, syscall.ECONNREFUSED):
		return CodeRefused, "Nothing listens on that port: check that the broker runs, and the port in broker.url."
	case errors.As(err, &dns):
		return CodeUnreachable, "The broker's name is not known: check broker.url and the name server."
	case errors.Is(err, errNoAnswer):
		return CodeSilent, "The broker takes the connection and does not answer: check it, and its rights for this user."
	case errors.Is(err, errBroken):
		return CodeLost, lostHint
	case errors.As(err, &netErr) && netErr.Timeout(), errors.Is(err, os.ErrDeadlineExceeded),
		errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return CodeUnreachable, "No way to the broker: check network, firewall and the address in broker.url."
	}
	return CodeLost, lostHint
}
