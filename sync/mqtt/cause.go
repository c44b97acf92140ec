package mqtt

import (
	"crypto/x509"
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
	CodeNotEchoed    = "not_echoed"
	CodeDuplicate    = "duplicate_client"
	CodePacketLimit  = "packet_limit"
	CodeReconnecting = "reconnecting"
)

// What may be wrong with a connection that is up, the worst first.
const (
	faultRival = iota
	faultEcho
	faultSubscription
	faultFiles
	faults
)

// fault sets, or with nil clears, one of what is wrong with the connection that
// is up; it says whether that is new.
func (c *Client) fault(kind int, err error) (news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.wrong[kind]
	c.wrong[kind] = err
	c.tellFaults()
	return err != nil && (before == nil || before.Error() != err.Error())
}

// tellFaults puts the worst fault into the status. The caller holds mu.
func (c *Client) tellFaults() {
	if c.status.State != Connected {
		return
	}
	c.status.Code, c.status.Err, c.status.Hint = "", "", ""
	for _, err := range c.wrong {
		if err != nil {
			c.status.Code, c.status.Hint = c.cause(err)
			c.status.Err = err.Error()
			return
		}
	}
}

// cause gives the code of an error and the operator's hint.
func (c *Client) cause(err error) (code, hint string) {
	switch {
	case errors.Is(err, errPacketLimit):
		return CodePacketLimit, packetHint
	case errors.Is(err, errRival):
		return CodeDuplicate, c.rivalHint()
	case errors.Is(err, errNotEchoed):
		return CodeNotEchoed, "The broker throws away what this user publishes, does not deliver to it, or hangs up on it: give it the rights for the topics of its hall. In the ACL of mosquitto they are lines below the user, this one among them: topic readwrite " + c.opts.Echo
	}
	return cause(err)
}

const packetHint = "Perhaps the broker takes only smaller packets than the agent sends, and hangs up on larger ones: allow 66560 bytes there, in mosquitto with max_packet_size 66560. Its log says why it closes the connection."

const lostHint = "The connection broke: the network, the broker, or another client with the same client id."

func cause(err error) (code, hint string) {
	var dns *net.DNSError
	var netErr net.Error
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, errSubscribe):
		return CodeSubscription, "The broker connects this user but refuses to let it subscribe: give it the rights that the broker's ACL sample lists."
	case errors.Is(err, errURL):
		return CodeURL, "Correct broker.url in the configuration."
	case errors.Is(err, errRenew):
		return CodeReconnecting, "Nothing to do: the agent has ended the connection in good order and connects again."
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
	case errors.Is(err, errTLS) && errors.Is(err, errExpired):
		return CodeTLS, "This gateway's certificate has expired: put a new one and its key into broker.cert_file and broker.key_file; they are read again at each attempt. If it has not, this machine's clock is wrong."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return CodeTLS, "The broker's certificate has expired: its operator must renew it. If it has not, this machine's clock is wrong."
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
