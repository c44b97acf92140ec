package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/hallagent/hallagent/cmd/hallagent/internal/config"
	"github.com/hallagent/hallagent/idcard"
	"github.com/hallagent/hallagent/idcard/photo"
	"github.com/hallagent/hallagent/sync/lan"
)

// photos brings the site's photo decoder, if there is one, to the workstations
// and its troubles to the log.
type photos struct {
	decoder *photo.Decoder
	log     *slog.Logger

	mu   sync.Mutex
	code string // of the trouble that was last told; "" when it works
}

func newPhotos(c config.Photo, log *slog.Logger) *photos {
	return &photos{decoder: photo.New(photo.Options{Command: c.Decoder, Limit: c.Limit, Log: log}), log: log}
}

// decode is what the LAN asks for pictures, nil without a decoder.
func (p *photos) decode() lan.Decode {
	if p.decoder == nil {
		return nil
	}
	return func(ctx context.Context, block []byte) ([]byte, *idcard.Trouble) {
		png, err := p.decoder.PNG(ctx, block)
		if ctx.Err() != nil && err != nil {
			return nil, &idcard.Trouble{Code: "cancelled", ZH: "已取消", EN: "The request was given up", Detail: ctx.Err().Error()}
		}
		e, bad := errors.AsType[*photo.Error](err)
		p.tell(e)
		if bad {
			return nil, &idcard.Trouble{Code: e.Code, ZH: e.ZH, EN: e.EN, Detail: e.Err.Error()}
		}
		return png, nil
	}
}

// tell logs when the decoder meets another trouble than before, and when it works
// again.
func (p *photos) tell(e *photo.Error) {
	code := ""
	if e != nil {
		code = e.Code
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case code == p.code:
		return
	case e != nil:
		p.log.Warn("cannot decode a photo", "code", code, "err", e.Err,
			"hint", "run the decoder by hand with a photo block on stdin; see photo.decoder")
	default:
		p.log.Info("photos are decoded again")
	}
	p.code = code
}

// outcomes counts photos by what came of them.
func (p *photos) outcomes() map[string]uint64 {
	if p.decoder == nil {
		return nil
	}
	return p.decoder.Status().Outcomes
}
