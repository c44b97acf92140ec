package lan

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hallagent/hallagent/idcard"
)

// TestTroubleOfAnUnreadCard tells whoever reloads a page what is wrong with the
// card that lies there, for a while and not beyond the next card.
func TestTroubleOfAnUnreadCard(t *testing.T) {
	s := newServer(t)
	synctest.Test(t, func(t *testing.T) {
		first := func() string {
			c, _ := s.windows.join("05", "somebody", false)
			defer s.windows.leave("05", c)
			s.windows.greet("05", c, Reader{ID: "rd-05"})
			return string(<-c.queue)
		}
		trouble := idcard.Event{Type: idcard.CardTroubled, Window: "05", Trouble: &idcard.Trouble{Code: "read_failed"}}
		s.ShowCard(trouble)
		if got := first(); !strings.Contains(got, "read_failed") {
			t.Errorf("just after: %s", got)
		}
		time.Sleep(freshTrouble)
		if got := first(); strings.Contains(got, "read_failed") {
			t.Errorf("long after: %s", got)
		}
		s.ShowCard(trouble)
		e, _ := lay("05", "测试甲")
		s.ShowCard(e)
		if got := first(); strings.Contains(got, "read_failed") {
			t.Errorf("after the next card: %s", got)
		}
	})
}
