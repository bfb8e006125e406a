// A step-ca without the CLI's helpers, cloud key stores and hardware: the CA library, served as its configuration says.
package main

import (
	"fmt"
	"os"

	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/ca"
	_ "github.com/smallstep/certificates/cas/softcas"
)

func main() {
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(file string) error {
	settings, err := config.LoadConfiguration(file)
	if err != nil {
		return err
	}
	server, err := ca.New(settings, ca.WithConfigFile(file))
	if err != nil {
		return err
	}
	return server.Run()
}
