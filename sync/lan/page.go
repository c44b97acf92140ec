package lan

import (
	"bytes"
	"embed"
	"io/fs"
	"net/http"
	"time"
)

//go:embed page
var pages embed.FS

// page serves one embedded page.
func page(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := pages.ReadFile("page/" + name)
		if err != nil {
			panic(err) // embedded: it is there or the program was not built
		}
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(text))
	})
}

// assets serves what the pages need; there is nothing from outside.
func assets() http.Handler {
	sub, err := fs.Sub(pages, "page")
	if err != nil {
		panic(err)
	}
	return http.FileServerFS(sub)
}
