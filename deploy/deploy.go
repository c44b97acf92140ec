// Package deploy holds what is installed beside the program. In Go it is only
// the sample configuration, so that the demo and the tests run what is shipped.
package deploy

import _ "embed"

// Sample is the sample configuration, hallagent.yaml.
//
//go:embed hallagent.yaml
var Sample []byte
