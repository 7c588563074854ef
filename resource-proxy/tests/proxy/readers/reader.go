// Reads JSON-RPC bodies, one a line in hexadecimal, as Go's encoding/json does, and prints what a server would see of each.
package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
)

type message struct {
	Method json.RawMessage `json:"method"`
	Params json.RawMessage `json:"params"`
}

type params struct {
	Name   json.RawMessage `json:"name"`
	URI    json.RawMessage `json:"uri"`
	TaskID json.RawMessage `json:"taskId"`
	Ref    json.RawMessage `json:"ref"`
}

func text(value json.RawMessage) *string {
	var text *string
	if json.Unmarshal(value, &text) != nil {
		return nil
	}
	return text
}

func seen(value json.RawMessage) []*string {
	var message message
	var params, reference params
	_ = json.Unmarshal(value, &message)
	_ = json.Unmarshal(message.Params, &params)
	_ = json.Unmarshal(params.Ref, &reference)
	return []*string{
		text(message.Method), text(params.Name), text(params.URI), text(params.TaskID),
		text(reference.Name), text(reference.URI),
	}
}

func read(body []byte) [][]*string {
	var messages []json.RawMessage
	if !json.Valid(body) {
		return nil
	}
	if !bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		messages = []json.RawMessage{body}
	} else if json.Unmarshal(body, &messages) != nil {
		return nil
	}
	all := [][]*string{}
	for _, message := range messages {
		all = append(all, seen(message))
	}
	return all
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for lines.Scan() {
		body, _ := hex.DecodeString(lines.Text())
		line, _ := json.Marshal(read(body))
		fmt.Fprintf(out, "%s\n", line)
	}
}
