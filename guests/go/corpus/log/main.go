// Log writes structured lines with zap, through a logger made when the program started, and counts them.
package main

import (
	"errors"

	"go.uber.org/zap"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

var logger = zap.Must(zap.NewProduction(zap.Fields(zap.String("service", "orders"))))

func main() { contract.Answer("log", answer) }

func answer(req *contract.Request) (*contract.Response, error) {
	body, err := req.Bytes()
	if err != nil {
		return nil, err
	}
	log := logger.With(zap.String("trace", req.TraceID)).Named("request")
	log.Info("received", zap.String("uri", req.URI), zap.Int("bytes", len(body)))
	log.Debug("not shown in production")
	for name, values := range req.Headers {
		if len(values) > 1 {
			log.Sugar().Warnw("header is given more than once", "name", name, "values", values)
		}
	}
	if len(body) == 0 {
		log.Error("refused", zap.Error(errors.New("no body")))
		return contract.Text(400, "log: a body is wanted\n"), nil
	}
	return contract.Text(202, "logged\n"), logger.Sync()
}
