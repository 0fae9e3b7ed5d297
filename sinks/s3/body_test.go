package s3

import (
	"bytes"
	"errors"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"

	"hydrant/sinks"
	"hydrant/sinks/sinktest"
)

// nvme is the polynomial in the standard library's implementation, which is not the one that is used.
var nvme = sync.OnceValue(func() *crc64.Table { return crc64.MakeTable(sinks.CRC64NVME) })

func TestCombine(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, split := range [][2]int{{0, 0}, {0, 1}, {1, 0}, {1, 1}, {3, 8}, {1000, 1}, {1, 1000}, {777, 65536}, {65535, 12345}} {
		b := make([]byte, split[0]+split[1])
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		sum := func(b []byte) uint64 { return crc64.Checksum(b, nvme()) }
		if got, want := combine(sum(b[:split[0]]), sum(b[split[0]:]), int64(split[1])), sum(b); got != want {
			t.Errorf("%v: %x, want %x", split, got, want)
		}
	}
}

// TestCRC64NVME is the check value of the algorithm's definition.
func TestCRC64NVME(t *testing.T) {
	if got := crc64.Checksum([]byte("123456789"), nvme()); got != 0xae8b14860a799888 {
		t.Errorf("%x", got)
	}
}

func TestPartSize(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct{ size, want int64 }{
		{0, 16 * mib}, {16*mib + 1, 16 * mib}, {160_000 * mib, 16 * mib}, {160_000*mib + 1, 17 * mib}, {5 << 40, 525 * mib}, {50_000 * 1024 * mib, 5120 * mib},
	} {
		got := partSize(c.size, minPart)
		if got != c.want {
			t.Errorf("parts of %d bytes have %d, want %d", c.size, got, c.want)
		}
		if n := (c.size + got - 1) / got; n > maxParts {
			t.Errorf("%d bytes have %d parts", c.size, n)
		}
	}
	s := open(t, Options{Bucket: "b", Region: "r", Credentials: Credentials{Keys: StaticKeys("k", "s", "")}})
	err := s.Put(t.Context(), sinks.Object{Key: "k", Size: 51_200*1024*mib + 1, ReaderAt: bytes.NewReader(nil)})
	wantError(t, "too large", err, sinks.RefusedObject, "EntityTooLarge", "parts")
}

// TestBody reads as the SDK and the transport do.
func TestBody(t *testing.T) {
	o := sinktest.Object("k", 100_003, 1)
	b := newBody(o, section{0, o.Size}, &o.CRC64NVME)
	all, err := io.ReadAll(iotest.HalfReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(onlyReader{newBody(o, section{0, o.Size}, &o.CRC64NVME)}, all); err != nil {
		t.Error(err)
	}
	if crc, ok := b.sum(); !ok || crc != o.CRC64NVME {
		t.Errorf("sum %x %t", crc, ok)
	}
	// The SDK learns the length, then begins anew; a second reading is checked like the first.
	for _, at := range []section{{0, o.Size}, {17, 40_000}, {o.Size - 1, 1}} {
		want := crc64.Checksum(all[at.off:at.off+at.size], nvme())
		b := newBody(o, at, &want)
		for range 2 {
			if n, err := b.Seek(0, io.SeekEnd); err != nil || n != at.size {
				t.Errorf("length %d, %v", n, err)
			}
			if _, err := b.Seek(0, io.SeekStart); err != nil {
				t.Error(err)
			}
			got, err := io.ReadAll(b)
			if err != nil || !bytes.Equal(got, all[at.off:at.off+at.size]) {
				t.Errorf("%v: %d bytes, %v", at, len(got), err)
			}
		}
		if _, err := b.Seek(-1, io.SeekStart); err == nil {
			t.Error("seek to nowhere")
		}
		want++
		b = newBody(o, at, &want)
		got, err := io.ReadAll(b)
		if !errors.Is(err, errDamaged) || int64(len(got)) >= at.size {
			t.Errorf("%v: a wrong checksum gives %d bytes and %v", at, len(got), err)
		}
		if err := b.explain(io.ErrClosedPipe); !errors.Is(err, errDamaged) {
			t.Errorf("explained as %v", err)
		}
	}
	b = newBody(o, section{0, o.Size}, nil)
	b.stop()
	if n, err := b.Read(make([]byte, 10)); n != 0 || err != errStopped {
		t.Errorf("a stopped body gives %d bytes, %v", n, err)
	}
}

type onlyReader struct{ io.Reader }

func TestEmptyObjectWithAChecksumIsDamaged(t *testing.T) {
	s := servers[2].open(t)
	v := s.bucket(t)
	o := sinktest.Object("k", 0, 1)
	o.CRC64NVME = 1
	wantError(t, "put", open(t, v.options("")).Put(t.Context(), o), sinks.Damaged, "Damaged", "CRC64NVME")
	v.has()
}

func FuzzCombine(f *testing.F) {
	f.Add([]byte("123456789"), uint16(4))
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		i := int(at) % (len(b) + 1)
		if got, want := combine(crc64.Checksum(b[:i], nvme()), crc64.Checksum(b[i:], nvme()), int64(len(b)-i)), crc64.Checksum(b, nvme()); got != want {
			t.Errorf("%x, want %x", got, want)
		}
	})
}

// BenchmarkPut sends to a store in this process, which hashes what it gets.
func BenchmarkPut(b *testing.B) {
	for name, size := range map[string]int64{"4KiB": 4 << 10, "16MiB": 16 << 20, "64MiB": 64 << 20} {
		b.Run(name, func(b *testing.B) {
			s := servers[0].open(b)
			v := s.bucket(b)
			sink := open(b, v.options(""))
			o := sinktest.Object("", size, 1)
			// From memory: making the bytes takes longer than sending them.
			all, err := io.ReadAll(io.NewSectionReader(o, 0, size))
			if err != nil {
				b.Fatal(err)
			}
			o.ReaderAt = bytes.NewReader(all)
			b.SetBytes(size)
			b.ReportAllocs()
			n := uint64(0)
			for b.Loop() {
				n++
				o.Key = sinktest.Key("b/", n)
				if err := sink.Put(b.Context(), o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
