// Verifies a ledger with Go's own libraries for checksum databases (golang.org/x/mod/sumdb).
//
// Reads questions from standard input, one JSON object a line, and answers each with one line: "ok", or
// why not. It shares no code with the product.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type question struct {
	Ask   string   // note, record, tree or log
	Vkey  string   // the log's key
	Note  string   // the signed checkpoint, for tree the newer one
	Older string   // tree: the older signed checkpoint
	Index int64    // record
	Entry string   // record
	Path  []string // record, tree: base64
	Place string   // log: a directory with tiles and bundles
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	for in.Scan() {
		var q question
		err := json.Unmarshal(in.Bytes(), &q)
		if err == nil {
			err = answer(q)
		}
		if err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok")
		}
	}
}

func answer(q question) error {
	size, root, err := open(q.Note, q.Vkey)
	if err != nil {
		return err
	}
	path, err := hashes(q.Path)
	if err != nil {
		return err
	}
	switch q.Ask {
	case "note":
		return nil
	case "record":
		return tlog.CheckRecord(path, size, root, q.Index, tlog.RecordHash([]byte(q.Entry)))
	case "tree":
		oldSize, oldRoot, err := open(q.Older, q.Vkey)
		if err != nil {
			return err
		}
		return tlog.CheckTree(path, size, root, oldSize, oldRoot)
	case "log":
		return whole(q.Place, size, root)
	}
	return errors.New("unknown question")
}

// open verifies a signed checkpoint and reads its three lines.
func open(text, vkey string) (int64, tlog.Hash, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	opened, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return 0, tlog.Hash{}, errors.New("not a checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return size, root, err
}

func hashes(texts []string) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for _, text := range texts {
		hash, err := tlog.ParseHash(text)
		if err != nil {
			return nil, err
		}
		found = append(found, hash)
	}
	return found, nil
}

// whole checks every entry of a log, and a proof for each made from tiles by this library.
func whole(place string, size int64, root tlog.Hash) error {
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, tiles(place))
	if computed, err := tlog.TreeHash(size, reader); err != nil || computed != root {
		return fmt.Errorf("the tiles don't lead to the root: %v", err)
	}
	for first := int64(0); first < size; first += 256 {
		width := size - first
		if width > 256 {
			width = 256
		}
		entries, err := bundle(place, tlog.Tile{H: 8, L: 0, N: first / 256, W: int(width)})
		if err != nil {
			return err
		}
		for i, entry := range entries {
			index := first + int64(i)
			found, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
			if err != nil {
				return err
			}
			if found[0] != tlog.RecordHash(entry) {
				return fmt.Errorf("entry %d isn't the one in the tree", index)
			}
			if index%97 == 0 || index == size-1 {
				proof, err := tlog.ProveRecord(size, index, reader)
				if err != nil {
					return err
				}
				if err := tlog.CheckRecord(proof, size, root, index, found[0]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// bundle reads an entry bundle: each entry behind its length in two octets.
func bundle(place string, tile tlog.Tile) ([][]byte, error) {
	data, err := os.ReadFile(filepath.Join(place, strings.Replace(tile.Path(), "tile/8/0/", "tile/entries/", 1)))
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(data) >= 2 {
		length := 2 + int(binary.BigEndian.Uint16(data))
		if length > len(data) {
			return nil, errors.New("a bundle ends within an entry")
		}
		entries, data = append(entries, data[2:length]), data[length:]
	}
	if len(data) != 0 || len(entries) != tile.W {
		return nil, errors.New("a bundle has another number of entries than its tile has hashes")
	}
	return entries, nil
}

// tiles reads tiles from a directory. This library's paths name the height of tiles, C2SP's don't.
type tiles string

func (t tiles) Height() int { return 8 }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(string(t), path))
		if err != nil {
			return nil, err
		}
		if len(data) != tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s has %d octets", path, len(data))
		}
		found = append(found, data)
	}
	return found, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}
