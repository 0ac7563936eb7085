package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"rmtrain/train/report"
)

type watchOptions struct {
	listen               string
	allowUnauthenticated bool
}

func watchCommand() *cobra.Command {
	var o watchOptions
	c := &cobra.Command{
		Use:   "watch DIR",
		Short: "Show a running or finished run on a web page",
		Long: `Show the run whose train.output_dir is DIR on a web page: progress, time left, speed and
curves, as they come. The folder is only read. It may be that of a run that has not
started yet; a run that stops and resumes is followed.`,
		Example: `  rmtrain watch out
  ssh -L 8001:127.0.0.1:8001 machine rmtrain watch out    # from elsewhere`,
		Args: one("the train.output_dir of one run"),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), args[0], c.OutOrStdout()) },
	}
	c.Flags().StringVar(&o.listen, "listen", "127.0.0.1:8001", "`address` and port; port 0 takes a free one")
	c.Flags().BoolVar(&o.allowUnauthenticated, "allow-unauthenticated", false, "let other machines see the page, which asks for no key")
	return c
}

func (o watchOptions) run(ctx context.Context, dir string, w io.Writer) error {
	if st, err := os.Stat(dir); err == nil && !st.IsDir() {
		return fmt.Errorf("watch: %s is a file (give the run's train.output_dir)", dir)
	}
	if err := o.checkAddress(); err != nil {
		return err
	}
	listener, err := listen("watch", o.listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s is shown at http://%s (stop with Ctrl-C)\n", dir, listener.Addr())
	return serveUntilDone(ctx, listener, report.NewWatcher(dir))
}

// listen opens an address, that of the flag --listen of command.
func listen(command, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var system *os.SyscallError
	if errors.As(err, &system) {
		err = system.Err
	}
	return nil, fmt.Errorf("%s: listen on %s: %w (choose another address with --listen; port 0 takes a free one)", command, address, err)
}

// checkAddress refuses an address that other machines reach, unless that is wanted:
// the page shows the run's configuration and samples.
func (o watchOptions) checkAddress() error {
	host, _, err := net.SplitHostPort(o.listen)
	if err != nil {
		return fmt.Errorf("watch: --listen %q: %w (give host:port)", o.listen, err)
	}
	if ip := net.ParseIP(host); o.allowUnauthenticated || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("watch: %s can be reached from other machines, and the page asks for no key (listen on 127.0.0.1, or say --allow-unauthenticated)", o.listen)
}

// serveUntilDone serves until ctx ends. Pages that listen for events are cut off
// then: they would listen forever.
func serveUntilDone(ctx context.Context, listener net.Listener, h http.Handler) error {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })() // Serve tells the rest
	if err := s.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("watch: %w", err)
	}
	return nil
}
