// Package deploy holds what is installed beside the program. In Go it is what
// the demo and the tests run as it is shipped: the sample configuration, and the
// configurations of brokers.
package deploy

import "embed"

// Sample is the sample configuration, hallagent.yaml.
//
//go:embed hallagent.yaml
var Sample []byte

// Brokers holds the folders mosquitto and nats.
//
//go:embed mosquitto nats
var Brokers embed.FS

// Certificates is certificates.sh, which makes the brokers' certificates.
//
//go:embed certificates.sh
var Certificates []byte
