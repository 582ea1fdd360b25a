package interop

import (
	"bufio"
	"bytes"
	"fmt"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// desktop is a screen of its own with a session bus and a window manager, on which programs with windows run.
type desktop struct {
	t    *testing.T
	home string
	env  []string
}

// openDesktop starts Xvfb, a session bus and a window manager for one test.
func openDesktop(t *testing.T) *desktop {
	t.Helper()
	for _, p := range []struct{ program, pack string }{
		{"Xvfb", "xvfb"}, {"openbox", "openbox"}, {"dbus-daemon", "dbus"}, {"xdotool", "xdotool"}, {"xclip", "xclip"}, {"import", "imagemagick"},
		{"gdbus", "libglib2.0-bin"},
	} {
		need(t, p.program, fmt.Sprintf("%s, for a client with a window: apt-get install %s", p.program, p.pack))
	}
	home, err := os.MkdirTemp("", "interop-desk-") // the name of a socket is limited to a hundred bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	d := &desktop{t: t, home: home}
	bus := filepath.Join(home, "bus")
	d.env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "XDG_RUNTIME_DIR=" + home, "DBUS_SESSION_BUS_ADDRESS=unix:path=" + bus,
		"GDK_BACKEND=x11", "GSK_RENDERER=cairo", "GTK_A11Y=none", "GSETTINGS_BACKEND=memory", "NO_AT_BRIDGE=1"}

	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	screen := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "1280x800x24", "-nolisten", "tcp")
	screen.ExtraFiles = []*os.File{write}
	d.run("xvfb", screen)
	write.Close()
	read.SetReadDeadline(time.Now().Add(patience))
	number, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb did not start: %v\n%s", err, tail(d.log("xvfb"), 2<<10))
	}
	d.env = append(d.env, "DISPLAY=:"+strings.TrimSpace(number))
	d.run("bus", exec.Command("dbus-daemon", "--session", "--nofork", "--nopidfile", "--address=unix:path="+bus))
	d.until("a session bus", func() bool { _, err := os.Stat(bus); return err == nil })
	d.run("openbox", exec.Command("openbox"))
	return d
}

func (d *desktop) log(name string) string { return filepath.Join(d.home, name+".log") }

// run starts a program that ends with the test at the latest, asked first.
func (d *desktop) run(name string, cmd *exec.Cmd) {
	d.t.Helper()
	log, err := os.Create(d.log(name))
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	cmd.Env = append(cmd.Env, d.env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		d.t.Fatalf("starting %s: %v", name, err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	d.t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			cmd.Process.Kill()
			<-done
		}
	})
}

// tool runs a program on this desktop to its end, with a time limit.
func (d *desktop) tool(program string, arguments ...string) (string, error) {
	cmd := exec.Command(program, arguments...)
	cmd.Env = d.env
	timer := time.AfterFunc(patience, func() {
		if cmd.Process != nil {
			cmd.Process.Kill()
		}
	})
	defer timer.Stop()
	return output(cmd)
}

func (d *desktop) must(program string, arguments ...string) string {
	d.t.Helper()
	out, err := d.tool(program, arguments...)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

// enter types a line into the window that has the keyboard.
func (d *desktop) enter(line string) {
	d.t.Helper()
	d.must("xdotool", "type", "--delay", "20", line)
	d.must("xdotool", "key", "Return")
}

// until waits for something to be so.
func (d *desktop) until(what string, done func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("no %s", what)
		}
	}
}

// picture takes a picture of the screen.
func (d *desktop) picture() []byte {
	d.t.Helper()
	return []byte(d.must("import", "-silent", "-window", "root", "png:-"))
}

func (d *desktop) screen(name string) {
	d.t.Helper()
	keep(d.t, name+".png", d.picture())
}

// sunsets counts the points on the screen that have the colours of picture: no green, and red and blue that make up
// for each other. Nothing else in a desktop client looks so.
func (d *desktop) sunsets() int {
	d.t.Helper()
	img, err := png.Decode(bytes.NewReader(d.picture()))
	if err != nil {
		d.t.Fatal(err)
	}
	n := 0
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			c := color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)
			if sum := int(c.R) + int(c.B); c.G < 8 && sum > 235 && sum < 275 {
				n++
			}
		}
	}
	return n
}
