package lookup

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"hydrant/transform"
)

// Bounds of a table.
const (
	MaxFile = 64 << 20 // bytes of the file
	maxLine = 1 << 20  // bytes of a line of NDJSON
)

// table is a file as it was read. It is immutable.
type table struct {
	rows map[string][]byte // JSON text by key
	info os.FileInfo
}

// read reads a table. On error nothing of it is used.
func read(name string) (*table, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a directory", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", name, MaxFile)
	}
	rows, err := parse(strings.ToLower(filepath.Ext(name)), data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &table{rows: rows, info: info}, nil
}

// parse reads the text of a table as its file's extension says.
func parse(extension string, data []byte) (map[string][]byte, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	switch extension {
	case ".csv":
		return parseCSV(data)
	case ".ndjson", ".jsonl":
		return parseNDJSON(data)
	}
	return nil, fmt.Errorf("the extension %q is none of .csv, .ndjson and .jsonl", extension)
}

// parseCSV takes a header and rows. The first column is the key. With two columns a row stands for the text of the
// second, with more for an object of all but the first.
func parseCSV(data []byte) (map[string][]byte, error) {
	r := csv.NewReader(bytes.NewReader(data))
	r.ReuseRecord = true
	head, err := r.Read()
	if err == io.EOF {
		return nil, errors.New("it has no header")
	}
	if err != nil {
		return nil, err
	}
	if len(head) < 2 {
		return nil, errors.New("line 1: the header has one column; a key and at least one more are wanted")
	}
	var names [][]byte
	seen := map[string]bool{}
	for _, h := range head {
		if seen[h] {
			return nil, fmt.Errorf("line 1: the column %q is there twice", h)
		}
		seen[h] = true
		names = append(names, quote(h))
	}
	rows := map[string][]byte{}
	for {
		row, err := r.Read()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		if _, dup := rows[row[0]]; dup {
			return nil, fmt.Errorf("line %d: the key %q is there twice", line, row[0])
		}
		value := quote(row[1])
		if len(row) > 2 {
			value = []byte{'{'}
			for i := 1; i < len(row); i++ {
				if i > 1 {
					value = append(value, ',')
				}
				value = append(append(append(value, names[i]...), ':'), quote(row[i])...)
			}
			value = append(value, '}')
		}
		rows[strings.Clone(row[0])] = value
	}
}

func quote(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("bug: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// parseNDJSON takes an object a line. The first member is the key, a string, number or boolean. With two members a line
// stands for the value of the second, with more for an object of all but the first.
func parseNDJSON(data []byte) (map[string][]byte, error) {
	rows := map[string][]byte{}
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, maxLine)
	var d transform.Document
	for line := 1; s.Scan(); line++ {
		if len(bytes.TrimSpace(s.Bytes())) == 0 {
			continue
		}
		d.Reset(s.Bytes())
		root, err := d.Root()
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		first := d.First(root)
		switch {
		case d.Kind(root) != transform.Object:
			return nil, fmt.Errorf("line %d: it is %s, a JSON object is needed", line, d.Kind(root))
		case first == 0 || d.Next(first) == 0:
			return nil, fmt.Errorf("line %d: a key and at least one member more are wanted", line)
		}
		key, ok := keyText(&d, first)
		if !ok {
			return nil, fmt.Errorf("line %d: the key %s is %s; a string, a number or a boolean is wanted", line, d.Name(first), d.Kind(first))
		}
		if _, dup := rows[string(key)]; dup {
			return nil, fmt.Errorf("line %d: the key %q is there twice", line, key)
		}
		name := string(key)
		second := d.Next(first)
		if d.Next(second) == 0 {
			rows[name] = d.JSON(nil, second)
			continue
		}
		d.Remove(first)
		rows[name] = d.JSON(nil, root)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("a line has more than %d bytes: %w", maxLine, err)
	}
	return rows, nil
}

// keyText is the text that a value is looked up by: a string's characters, or a number or boolean as it is written.
func keyText(d *transform.Document, v transform.Ref) ([]byte, bool) {
	switch d.Kind(v) {
	case transform.String:
		return d.StringValue(v), true
	case transform.Number, transform.True, transform.False:
		return d.Text(v), true
	}
	return nil, false
}
