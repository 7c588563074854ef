// The OpenTelemetry collector with what the tests need of it: it receives traces by OTLP over HTTP, and writes them to
// a file as OTLP JSON, a line for each batch.
package main

import (
	"context"
	"log"
	"os"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

func main() {
	settings := otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "otel-collector", Version: "0.165.0"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{
			ResolverSettings: confmap.ResolverSettings{
				DefaultScheme:     "file",
				ProviderFactories: []confmap.ProviderFactory{fileprovider.NewFactory()},
			},
		},
	}
	if err := otelcol.NewCommand(settings).Execute(); err != nil {
		log.Fatal(err)
	}
}

func factories() (otelcol.Factories, error) {
	receivers, err := otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory())
	if err != nil {
		return otelcol.Factories{}, err
	}
	exporters, err := otelcol.MakeFactoryMap[exporter.Factory](lines())
	return otelcol.Factories{
		Receivers: receivers,
		Exporters: exporters,
		Telemetry: otelconftelemetry.NewFactory(),
	}, err
}

type config struct {
	Path string `mapstructure:"path"`
}

func lines() exporter.Factory {
	return exporter.NewFactory(
		component.MustNewType("lines"),
		func() component.Config { return &config{} },
		exporter.WithTraces(newWriter, component.StabilityLevelDevelopment),
	)
}

type writer struct {
	path string
	file *os.File
}

func newWriter(_ context.Context, _ exporter.Settings, cfg component.Config) (exporter.Traces, error) {
	return &writer{path: cfg.(*config).Path}, nil
}

func (w *writer) Start(context.Context, component.Host) (err error) {
	w.file, err = os.Create(w.path)
	return err
}

func (w *writer) Shutdown(context.Context) error {
	return w.file.Close()
}

func (*writer) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{}
}

func (w *writer) ConsumeTraces(_ context.Context, traces ptrace.Traces) error {
	line, err := (&ptrace.JSONMarshaler{}).MarshalTraces(traces)
	if err != nil {
		return err
	}
	_, err = w.file.Write(append(line, '\n'))
	return err
}
