package admin

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"time"
)

//go:embed page.css
var pageStyle string

//go:embed page.html
var pageText string

// contentPolicy lets a browser load nothing at all and apply the one style sheet that stands in the page.
var contentPolicy = fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", styleHash())

func styleHash() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return base64.StdEncoding.EncodeToString(sum[:])
}

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"bytes": sizeText, "count": countText}).Parse(pageText))

// page shows the streams as they are now, without a script. Names, keys and messages of stores are other
// people's text: the template escapes them.
func (h *Handler) page(w http.ResponseWriter, _ *http.Request) {
	now := time.Now()
	view := struct {
		Style    template.CSS
		Version  string
		NotReady string
		Now      string
		Streams  []Status
		Age      func(*time.Time) string
		Ago      func(time.Time) string
	}{
		Style: template.CSS(pageStyle), Version: h.o.Version, NotReady: h.o.NotReady(), Now: now.UTC().Format("2006-01-02 15:04:05 UTC"),
		Age: func(t *time.Time) string {
			if t == nil {
				return "–"
			}
			return ageText(now.Sub(*t))
		},
		Ago: func(t time.Time) string { return ageText(now.Sub(t)) + " ago" },
	}
	if s := h.o.Streams(); s != nil {
		view.Streams = s.List()
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, view); err != nil {
		h.o.Log.Error("status page failed", "err", err)
		fail(w, http.StatusInternalServerError, "the page cannot be made")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(b.Bytes())
}

// ageText prints a span in the one or two largest units that say something.
func ageText(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh %dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func sizeText(n int64) string {
	const units = "KMGTP"
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// countText puts thin gaps between groups of three digits.
func countText(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return sign + s
}
