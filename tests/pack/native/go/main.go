// A provider of acme:text/filter in Go: plain wRPC over a unix socket, by hand.
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
)

func main() {
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			os.Exit(1)
		}
		go answer(connection.(*net.UnixConn))
	}
}

// An invocation: a zero byte, instance and function, then frames of a path and data. The parameters are the root, whose
// path is empty: here one text.
func answer(connection *net.UnixConn) {
	defer connection.Close()
	in := bufio.NewReader(connection)
	if version, err := in.ReadByte(); err != nil || version != 0 {
		return
	}
	if text(in) != "acme:text/filter" || text(in) != "echo" {
		return
	}
	if path, err := binary.ReadUvarint(in); err != nil || path != 0 {
		return
	}
	if _, err := binary.ReadUvarint(in); err != nil {
		return
	}
	said := fmt.Sprintf("%s by Go on %s", strings.ToUpper(text(in)), runtime.GOARCH)
	root := append(binary.AppendUvarint(nil, uint64(len(said))), said...)
	frame := append(binary.AppendUvarint([]byte{0}, uint64(len(root))), root...)
	connection.Write(frame)
	connection.CloseWrite()
	io.Copy(io.Discard, in)
}

func text(in *bufio.Reader) string {
	size, err := binary.ReadUvarint(in)
	if err != nil || size > 1<<20 {
		return ""
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(in, data); err != nil {
		return ""
	}
	return string(data)
}
