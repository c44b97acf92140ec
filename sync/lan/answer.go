package lan

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
)

// problem is an error as RFC 9457 wants it, with a stable code for programs.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

// refuse answers with problem details. The detail is for people and never holds
// anything that the caller sent.
func refuse(w http.ResponseWriter, status int, code, detail string) {
	body, err := json.Marshal(problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Code: code,
	})
	if err != nil {
		panic(err) // five plain fields
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

// answer writes a value as JSON.
func answer(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "internal", "the answer cannot be encoded")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(body, '\n'))
}

// maxBody is the largest request body in bytes.
const maxBody = 64 << 10

// take reads a JSON body into v, or refuses the request and says false.
func take(w http.ResponseWriter, r *http.Request, v any) bool {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "content_type", "the body must be application/json")
		return false
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	err := dec.Decode(v)
	if err == nil {
		// Nothing may follow; and only behind the end of the body does the server
		// notice that the caller has gone.
		if err = dec.Decode(new(json.RawMessage)); err == io.EOF {
			return true
		}
	}
	refuse(w, http.StatusBadRequest, "body", "the body is no such JSON")
	return false
}
