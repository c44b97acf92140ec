// Package sim holds living simulated devices: a SAM reader on which cards are
// laid and lifted, and a Modbus counter through which people pass. They speak
// over anything that reads and writes; a PTY gives them a line that can be
// pulled out and plugged in again, so the agent meets what it meets in a hall.
//
// The devices are written from the protocol documents and share no code with
// the drivers they talk to: a misunderstanding must not cancel out.
//
// Limits: a pseudo terminal has no baud rate, no parity and no modem lines.
// The rate of a reader is imitated by pacing its bytes; a host that set another
// rate would still understand them. Exclusive use (TIOCEXCL) of a pseudo
// terminal outlives the process that asked for it and died, until the next Plug.
package sim
