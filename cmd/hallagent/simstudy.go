package main

import (
	"fmt"
	"time"

	"github.com/hallagent/hallagent/counter/occupancy/study"
	"github.com/hallagent/hallagent/device/sim/visitors"
)

type simStudy struct {
	Seeds    []uint64      `help:"A hall for each seed." default:"1,2,3,4,5,6"`
	Days     int           `help:"Days that are judged, for each hall." default:"60"`
	Learn    int           `help:"Days before those." default:"20"`
	Visitors float64       `help:"Visitors a day, on average." default:"700"`
	Stay     time.Duration `help:"How long they stay, on average." default:"35m"`
}

func (simStudy) Help() string {
	return "For each technique of counting: the root mean square error in persons and the share of minutes with the right " +
		"level, beside the method that resets at night and clamps at zero, and how often the truth lies in the band that " +
		"is given for 90 %.\n\nExample:\n  hallagent sim study --seeds 7,8,9 --days 30"
}

// Validate refuses what would take for ever or mean nothing.
func (c simStudy) Validate() error {
	if c.Days < 1 || c.Days > 1000 || c.Learn < 0 || c.Learn > 1000 || len(c.Seeds) == 0 {
		return fmt.Errorf("--days and --learn go up to 1000, and a seed is needed")
	}
	if !(c.Visitors >= 1 && c.Visitors <= 20_000) || c.Stay < time.Minute || c.Stay > 8*time.Hour {
		return fmt.Errorf("--visitors go from 1 to 20000, --stay from 1m to 8h")
	}
	return nil
}

func (c simStudy) Run(s streams) error {
	learn := c.Learn
	if learn == 0 {
		learn = -1 // none
	}
	study.Run(study.Options{
		Seeds: c.Seeds, Days: c.Days, Learn: learn, Hall: visitors.Hall{Visitors: c.Visitors, Stay: c.Stay},
	}).Print(s.out)
	return nil
}
