//go:build !linux

package outbox

import "os"

func dataSync(f *os.File) error { return f.Sync() }
