// Package sim holds living simulated devices: a SAM reader on which cards of all
// kinds are laid and lifted, and counters of several kinds through which people
// pass. They speak over anything that reads and writes; a PTY gives them a line
// that can be pulled out and plugged in again, and several may share one, so the
// agent meets what it meets in a hall. Infrared units and cameras that push dial
// the agent. What can be the matter with a reader and its line is its [Mood]; with
// a counter, its [CounterFaults] or [IRFaults].
//
// The devices are written from the protocol documents and share no code with
// the drivers they talk to, the layouts of cards included: a misunderstanding
// must not cancel out.
//
// Limits: a pseudo terminal has no parity, no modem lines and no rate of its own.
// A reader on one paces its bytes, and knows the rate its host has set: at
// another each hears what a UART would make of it. This is so on Linux alone and
// for the usual rates; other rates pass for the right one. That a host closes a
// pseudo terminal and opens it again is not seen. Exclusive use (TIOCEXCL) of a
// pseudo terminal outlives the process that asked for it and died, until the
// next Plug.
package sim
