// Package idcard reads second-generation resident identity cards (GA 450) from
// a reader with a SAM security module (GA 467): frames and commands of the
// serial protocol, the kinds of cards and what their text says, the rules of
// the numbers, and the cycle that notices a card being laid down and lifted.
//
// The parts below Reader are pure: a Framer takes bytes, ParseText takes a
// block, CheckNumber takes a number. A Reader is a device.Use; it owns no line
// and starts no goroutine, so a line that breaks ends it and a device.Link
// brings it back.
//
// A chip is the authority on what it says. Doubts about a card are warnings to
// show, never reasons to refuse it. What is read is handed on in an Event, and
// once more where somebody asks while the card lies there unmoved; it is forgotten
// when the card is lifted, and after ten minutes. Card and Event print and log
// nothing of the person.
//
// Limits: the photo is handed on as the 1024 bytes of the card, since its coding
// is not public. Fingerprints and the card's management number are understood
// and never asked for. Of a kind of card that is not known only what proves
// itself is read. Where a module does not answer the test for presence, the end
// of a card is noticed when the next is laid down.
package idcard
