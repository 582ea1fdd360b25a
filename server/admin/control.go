package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

const (
	controlSocket = "control.sock"
	// maxControlPath is how long a socket's path may be: sun_path less its closing zero, 104 bytes on BSD and macOS, 108 on Linux.
	maxControlPath = 103
	// maxRequest bounds what a caller may send; passwords are at most 1 KiB.
	maxRequest = 64 << 10
)

// Status is what a running server says of itself on the control socket.
type Status struct {
	PID       int               `json:"pid"`
	Version   string            `json:"version"`
	Listening map[string]string `json:"listening"` // address by configuration key: "c2s" → "127.0.0.1:5222"
}

// Control serves the calls of a Host on the control socket.
type Control struct {
	dir    string
	server *http.Server
	done   chan struct{}
}

// OpenControl begins to answer on the control socket of the data folder dir. The caller has the folder's store open and so its lock: a socket file that
// is there was left behind by a dead server, and is replaced. status is asked for anew each time.
func OpenControl(dir string, h *Host, status func() Status, log *slog.Logger) (*Control, error) {
	l, err := listenControl(dir)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, status()) })
	mux.HandleFunc("POST /call", h.serveCall)
	mux.HandleFunc("GET /export", h.serveExport)
	mux.HandleFunc("POST /import", h.serveImport)
	c := &Control{
		dir: dir,
		server: &http.Server{
			Handler:           mux,
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       30 * time.Second,
			IdleTimeout:       time.Minute,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(c.done)
		if err := c.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("control socket failed: commands no longer reach this server", "error", err)
		}
	}()
	return c, nil
}

// Close removes the socket and waits for running calls until ctx ends, then breaks them off.
func (c *Control) Close(ctx context.Context) error {
	// First, so that nobody finds a socket that doesn't answer.
	err := os.Remove(filepath.Join(c.dir, controlSocket))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if stopped := c.server.Shutdown(ctx); stopped != nil {
		err = errors.Join(err, stopped, c.server.Close())
	}
	<-c.done
	return err
}

// callRequest and callAnswer are the bodies of POST /call.
type callRequest struct {
	Call    string            `json:"call"`
	Args    map[string]string `json:"args"`
	Prepare bool              `json:"prepare,omitempty"` // only find out whether it could be made
}

type callAnswer struct {
	Result
	Error string `json:"error,omitempty"`
}

func (h *Host) serveCall(w http.ResponseWriter, r *http.Request) {
	var req callRequest
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		writeJSON(w, http.StatusBadRequest, callAnswer{Error: "control socket: " + err.Error()})
		return
	}
	var result Result
	var err error
	if req.Prepare {
		err = h.Prepare(r.Context(), req.Call, req.Args)
	} else {
		result, err = h.Call(r.Context(), req.Call, req.Args)
	}
	if err != nil {
		writeJSON(w, http.StatusUnprocessableEntity, callAnswer{Error: err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, callAnswer{Result: result})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller has gone
}

// listenControl makes the socket in a folder that nobody else can enter and moves it to its place with its mode set: at no moment can others connect.
func listenControl(dir string) (net.Listener, error) {
	private, err := os.MkdirTemp(dir, ".c")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	path, done, err := socketPath(private, "s")
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it would unlink the old path
	err = os.Chmod(filepath.Join(private, "s"), 0o600)
	if err == nil {
		err = os.Rename(filepath.Join(private, "s"), filepath.Join(dir, controlSocket))
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// socketPath returns a path for the socket that the kernel accepts. One that is too long is reached, on Linux, through the open folder's descriptor,
// which done closes.
func socketPath(dir, name string) (path string, done func(), err error) {
	path = filepath.Join(dir, name)
	if len(path) <= maxControlPath {
		return path, func() {}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("%s is %d bytes long, the system allows %d: choose a data folder with a shorter path (--data)", path, len(path), maxControlPath)
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) + "/" + name, func() { f.Close() }, nil
}

// ErrNotRunning tells that no server answers on a data folder's control socket.
var ErrNotRunning = errors.New("no server is running")

// Client calls a running server.
type Client struct{ http *http.Client }

// Connect returns a Client for the server that runs on the data folder and what it says of itself. The error is ErrNotRunning if none answers.
func Connect(ctx context.Context, dir string) (*Client, Status, error) {
	c := &Client{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			path, done, err := socketPath(dir, controlSocket)
			if err != nil {
				return nil, err
			}
			defer done()
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}}}
	var status Status
	err := c.do(ctx, http.MethodGet, "/status", nil, &status)
	var op *net.OpError
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, Status{}, fmt.Errorf("the server's control socket: %w: run this as the user that the server runs as", err)
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, fs.ErrNotExist):
		return nil, Status{}, ErrNotRunning
	case err != nil:
		return nil, Status{}, err
	}
	return c, status, nil
}

// Call is Host.Call in the running server.
func (c *Client) Call(ctx context.Context, name string, args map[string]string) (Result, error) {
	return c.call(ctx, callRequest{Call: name, Args: args})
}

// Prepare is Host.Prepare in the running server.
func (c *Client) Prepare(ctx context.Context, name string, args map[string]string) error {
	_, err := c.call(ctx, callRequest{Call: name, Args: args, Prepare: true})
	return err
}

func (c *Client) call(ctx context.Context, req callRequest) (Result, error) {
	var answer callAnswer
	if err := c.do(ctx, http.MethodPost, "/call", req, &answer); err != nil {
		return Result{}, err
	}
	if answer.Error != "" {
		return Result{}, errors.New(answer.Error)
	}
	return answer.Result, nil
}

// do makes one request to the server and decodes the answer into out.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://carillon"+path, &body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("the server's answer (%s): %w", resp.Status, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return nil
}
