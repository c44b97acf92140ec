//go:build unix

package mosquitto

import "syscall"

// Pause stops the broker's process without ending it: connections stay open and
// nothing answers. Resume lets it go on.
func (b *Broker) Pause() { b.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (b *Broker) Resume() { b.signal(syscall.SIGCONT) }

// Reload makes the broker read passwords, rights and certificates again.
func (b *Broker) Reload() { b.signal(syscall.SIGHUP) }

// Pid is the id of the broker's process.
func (b *Broker) Pid() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.process.Process.Pid
}

func (b *Broker) signal(signal syscall.Signal) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.process.Process.Signal(signal); err != nil {
		b.t.Error(err)
	}
}
