package idcard

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// vectors is the file of made-up cards and exchanges.
type vectors struct {
	Exchanges []struct {
		Name, Request, Response string
		Expected                json.RawMessage
	}
	Cards   []vectorCard
	Fingers []struct {
		Name     string
		Response unhex `json:"response_hex"`
		Expected struct {
			Card    string
			Length  int `json:"fingerprint_length"`
			Fingers []Finger
		}
	} `json:"fingerprint_reads"`
	Malformed []struct {
		Name, Outcome, Note string
		Input               unhex    `json:"input_hex"`
		Frames              *[]unhex `json:"frames"`
		Discarded           *uint64  `json:"discarded_bytes"`
		Chunks              []int    `json:"chunk_sizes"`
	}
	IDNumbers struct {
		Valid18     []string                                       `json:"valid_18"`
		Invalid18   []struct{ Number, Reason string }              `json:"invalid_18"`
		Valid15     []string                                       `json:"valid_15"`
		Invalid15   []struct{ Number, Reason string }              `json:"invalid_15"`
		Derivations []struct{ New, Nationality, Link, Old string } `json:"derivations_y_to_old"`
	} `json:"id_numbers"`
}

type vectorCard struct {
	ID, Kind string
	Text     unhex `json:"text_hex"`
	Photo    unhex `json:"photo_hex"`
	Response unhex `json:"response_3001_hex"`
	Expected map[string]any
}

type unhex []byte

func (u *unhex) UnmarshalJSON(p []byte) error {
	var s string
	if err := json.Unmarshal(p, &s); err != nil {
		return err
	}
	b, err := hex.DecodeString(s)
	*u = b
	return err
}

func loadVectors(t testing.TB) vectors {
	t.Helper()
	p, err := os.ReadFile("testdata/idcard-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(p, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Exchanges) == 0 || len(v.Cards) == 0 || len(v.Malformed) == 0 || len(v.IDNumbers.Valid18) == 0 {
		t.Fatal("the vectors are not whole")
	}
	return v
}

func vectorCardOf(t testing.TB, id string) vectorCard {
	t.Helper()
	for _, c := range loadVectors(t).Cards {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no card %q in the vectors", id)
	return vectorCard{}
}
