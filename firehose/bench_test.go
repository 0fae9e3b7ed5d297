package firehose

import "testing"

// A dynamically partitioned stream, from the body to the document.
func BenchmarkCreate(b *testing.B) {
	body := []byte(partitioned(b))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		c, err := DecodeCreate(body)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := c.Document(settings); err != nil {
			b.Fatal(err)
		}
	}
}
