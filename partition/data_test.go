package partition

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"hydrant/record"
)

// TestFlights: every flight of 2001 stands where the standard library would have put it, by every way of reading it.
func TestFlights(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long under the race detector, which has nothing to see here")
	}
	records := lines(t, "flights-20k.ndjson.gz")
	o := Options{Prefix: template(t, "from=!{partitionKeyFromQuery:origin}/late=!{partitionKeyFromQuery:delay}/dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/"),
		Keys: map[string]string{"origin": ".origin", "delay": ".delay"}, EventTime: &EventTime{Field: "date", Formats: []string{"rfc3339", "yyyy/MM/dd HH:mm"}, AllowedLateness: time.Hour}}
	strict := scheme(t, o).NewRouter(Mark{})
	o.Trusting = true
	trusting := scheme(t, o).NewRouter(Mark{})
	o.Keys = map[string]string{"origin": `.origin | "\(.)"`, "delay": ".delay + 0"}
	jq := scheme(t, o).NewRouter(Mark{})
	newest, late := time.Time{}, 0
	for i := range records {
		data := records[i^31] // thirty-two at a time from back to front, so that some are late
		var flight struct {
			Date, Origin string
			Delay        int
		}
		if err := json.Unmarshal(data, &flight); err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse("2006/01/02 15:04", flight.Date)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("from=%s/late=%d/dt=%s/hour=%s/", flight.Origin, flight.Delay, at.Format("2006-01-02"), at.Format("15"))
		isLate := at.Before(newest.Add(-time.Hour))
		if at.After(newest) {
			newest = at
		}
		if isLate {
			late++
		}
		row := record.Row{Seq: uint64(i + 1), Arrived: arrival.UnixMicro() + int64(i), Data: data}
		for name, r := range map[string]*Router{"strict": strict, "trusting": trusting, "jq": jq} {
			placed, failure := r.Route(row, nil)
			if failure != nil {
				t.Fatalf("%s: %s: %v", name, data, failure)
			}
			if placed.Prefix != want || placed.Time != at.UnixMicro() || placed.Late != isLate {
				t.Fatalf("%s: %s:\n got %+v\nwant %s, %s, late %v", name, data, placed, want, at, isLate)
			}
		}
	}
	for _, r := range []*Router{strict, trusting, jq} {
		if got, ok := r.s.Watermark(r.Mark(), arrival.UnixMicro()); !ok || got != newest.Add(-time.Hour).UnixMicro() {
			t.Errorf("watermark %s, want an hour before %s", time.UnixMicro(got).UTC(), newest)
		}
	}
	if len(records) != 20_000 || late < 1000 {
		t.Errorf("%d flights, %d late", len(records), late)
	}
}
