package occupancy

import "math"

// sums says how the doors' sums are taken.
type sums int

const (
	raw      sums = iota // as counted, with the scale of a hand count
	live                 // with the balance that past days taught
	balanced             // so that who came has left: for a day that is over
)

// course is a day gone through once more from its curve, with some doors turned
// round: how many were inside by balance, and by the anchor.
type course struct {
	in, out float64 // people through visitors' doors, raw
	left    float64 // people inside by balance at the end, with the learned balance
	weighed float64 // people through the doors, with the learned balance

	balance, anchor float64 // visitors at the end
	n, m, mm        float64 // sums of balance and anchor, and of its square
	dd, ds, ss      float64 // sums of products of their difference d and the anchor's slope s
	steps           float64

	halves [halves]struct{ n, m float64 } // sums of balance and plain anchor by half hours
}

// own is the day's own stay as a part of the usual one, by Little's law.
func (c course) own() float64 {
	if c.m == 0 {
		return 1
	}
	return min(max(c.n/c.m, 0.5), 2)
}

// spread is the variance of the balance about an anchor with the day's own stay,
// per person of the anchor.
func (c course) spread() float64 {
	l := math.Log(c.own())
	return (c.dd - 2*l*c.ds + l*l*c.ss) / (c.m + 4*c.steps)
}

// off is the sum over the steps of the squared difference of balance and anchor,
// with a stay of the day that makes it least, within what is usual.
func (c course) off(varying float64) float64 {
	l := 0.0
	if c.ss > 0 {
		most := 2 * math.Sqrt(varying)
		l = min(max(c.ds/c.ss, -most), most)
	}
	return c.dd - 2*l*c.ds + l*l*c.ss
}

// course goes through the day so far. Bit i of turned turns the i-th visitors'
// door round.
func (e *Estimator) course(turned uint, how sums) (c course) {
	r := e.days.find(e.state.Day)
	if r == nil {
		return c
	}
	type way struct {
		in, out []uint64
		scale   float64
	}
	ways, bit := []way{}, 0
	for _, d := range e.settings.Doors {
		if d.Role == Staff {
			continue
		}
		if s := r.door(d.ID); s != nil {
			scale, _ := e.settings.scale(d)
			w := way{s.In, s.Out, scale}
			if turned>>bit&1 == 1 {
				w.in, w.out = w.out, w.in
			}
			ways = append(ways, w)
		}
		bit++
	}
	for _, w := range ways {
		for i := range w.in {
			c.in, c.out = c.in+w.scale*float64(w.in[i]), c.out+w.scale*float64(w.out[i])
		}
	}
	learned := math.Exp(e.state.Learned.Balance / 2)
	c.left, c.weighed = learned*c.in-c.out/learned, learned*c.in+c.out/learned
	tilt := 1.0 // people per entry counted, as a part of that per exit counted, its root
	switch {
	case how == live:
		tilt = learned
	case how == balanced && c.in > 0 && c.out > 0:
		tilt = math.Sqrt(c.out / c.in)
	}
	var a anchor
	var staff crew
	inside, stay := 0.0, e.state.Learned.Stay
	for i := range r.steps() {
		minute := i * curveStep
		var in, out float64
		for _, w := range ways {
			in, out = in+tilt*w.scale*float64(w.in[i]), out+w.scale/tilt*float64(w.out[i])
		}
		expected := e.staffAhead(minute)
		came := staff.enter(in, expected)
		staff.leave(out, inside-staff.Present, expected)
		staff.age(curveStep, expected)
		a.age(curveStep, stay)
		a.enter(in-came, curveStep, 0, stay)
		inside += in - out
		staff.Present = min(staff.Present, max(inside, 0))
		n, plain := inside-staff.Present, a.people()
		shape := e.state.Learned.shape(minute + curveStep)
		m := plain * shape
		if inside == 0 && m == 0 {
			continue // nobody came yet
		}
		if how == balanced {
			n = max(0, n)
		}
		half := &c.halves[min((minute+curveStep)/30, halves-1)]
		half.n, half.m = half.n+n, half.m+plain
		c.balance, c.anchor = n, m
		c.n, c.m, c.mm = c.n+n, c.m+m, c.mm+m*m
		d, slope := n-m, a.slope()*shape
		c.dd, c.ds, c.ss = c.dd+d*d, c.ds+d*slope, c.ss+slope*slope
		c.steps++
	}
	return c
}
