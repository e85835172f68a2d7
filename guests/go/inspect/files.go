package main

import (
	"encoding/base64"
	"os"
)

// fileReport tells how reading or writing one file went.
type fileReport struct {
	Path string `json:"path"`
	Size int    `json:"size"`
	// Base64 is what was read.
	Base64 string `json:"base64,omitempty"`
	Error  string `json:"error,omitempty"`
}

// listReport lists the entries of a directory; the names of directories end in a slash.
type listReport struct {
	Path  string   `json:"path"`
	Names []string `json:"names"`
	Error string   `json:"error,omitempty"`
}

func readFile(path string) *fileReport {
	content, err := os.ReadFile(path)
	return &fileReport{
		Path:   path,
		Size:   len(content),
		Base64: base64.StdEncoding.EncodeToString(content),
		Error:  text(err),
	}
}

func writeFile(path string, content []byte) *fileReport {
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return &fileReport{Path: path, Error: text(err)}
	}
	return &fileReport{Path: path, Size: len(content)}
}

func listFolder(path string) *listReport {
	entries, err := os.ReadDir(path)
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() {
			name += "/"
		}
		names = append(names, name)
	}
	return &listReport{Path: path, Names: names, Error: text(err)}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
