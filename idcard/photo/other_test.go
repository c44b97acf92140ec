//go:build !linux || !(amd64 || arm64 || loong64)

package photo

import "testing"

// nobodyLeft cannot be known where children are not ended.
func nobodyLeft(*testing.T) {}
