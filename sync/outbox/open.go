package outbox

import (
	"errors"
	"fmt"
	"time"
)

// open opens the store, and salvages it if it cannot be trusted. A store that
// failed while it was open is looked through as a whole; if nothing is found and
// it fails again soon, it is salvaged all the same.
func (w *writer) open() error {
	o := w.o
	path := o.opts.Path
	if err := settle(path); err != nil {
		return err
	}
	why := sound(path, o.suspect)
	if why == nil && o.suspect {
		if time.Since(o.doubted) < doubt {
			why = errAgain
		}
		o.doubted = time.Now()
	}
	if why == nil {
		why = w.load()
	}
	begun := w.begun
	if isDamage(why) {
		d, err := salvage(path, o.opts, o.refused, why)
		if err != nil {
			if code, _ := cause(err); code == codeFull {
				prune(damages(path), 1)
			}
			return err
		}
		o.opts.Log.Error("store was damaged", "stream", o.opts.Stream, "err", why, "epoch", d.Epoch,
			"hint", "The damaged file is kept as "+d.File+": check the disk.", "saved", d.Saved, "lost", d.Lost, "open", d.Open)
		why, begun = w.load(), Salvaged
	}
	if why != nil {
		return why
	}
	o.suspect = false
	all := prune(damages(path), keptDamaged)
	o.note(func(s *Status) {
		s.Damages = all
		if begun != "" {
			s.Begun = begun
		}
	})
	return nil
}

// doubt is how soon a store must fail again to be salvaged without a finding.
const doubt = 10 * time.Minute

var errAgain = fmt.Errorf("%w: it failed twice", errPages)

// load opens the file and reads its state.
func (w *writer) load() error {
	var err error
	if w.h, err = openFile(w.o.opts.Path, w.limit()); err != nil {
		return err
	}
	if w.state, w.begun, err = load(w.h, w.o.opts); err != nil {
		return errors.Join(err, w.h.close())
	}
	return nil
}
