// Command servers is every program of a Kubernetes control plane and node in one binary: compiled and linked once, and
// most of it is shared. It is what it is called by (links, as busybox has them), or what its first argument names.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	// What Kubernetes' own programs register: ways to log in, the log format, metrics.
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/restclient"
	_ "k8s.io/component-base/metrics/prometheus/version"

	// The plugins of CoreDNS that the Corefile of controlplane.py names.
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

var programs = map[string]func(){
	"etcd":                    func() { etcdmain.Main(os.Args) },
	"kube-apiserver":          served(apiserver.NewAPIServerCommand),
	"kube-controller-manager": served(controllers.NewControllerManagerCommand),
	"kube-scheduler":          served(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kube-proxy":              served(proxy.NewProxyCommand),
	"kubelet":                 served(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kubectl":                 runKubectl,
	"coredns":                 runCoreDNS,
}

func main() {
	called := filepath.Base(os.Args[0])
	if _, ok := programs[called]; !ok && len(os.Args) > 1 {
		called, os.Args = os.Args[1], os.Args[1:]
	}
	run, ok := programs[called]
	if !ok {
		names := make([]string, 0, len(programs))
		for name := range programs {
			names = append(names, name)
		}
		slices.Sort(names)
		fmt.Fprintf(os.Stderr, "there is no program %q here, only: %s\n", called, strings.Join(names, " "))
		os.Exit(2)
	}
	run()
}

// served makes a program of a command that is built only when it is called: building one registers its flags and
// metrics, and those of two servers would meet.
func served(build func() *cobra.Command) func() {
	return func() { os.Exit(cli.Run(build())) }
}

func runKubectl() {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runCoreDNS() {
	dnsserver.Directives = []string{"bind", "errors", "health", "ready", "cache", "kubernetes"}
	coremain.Run()
}
