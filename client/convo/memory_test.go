package convo_test

import (
	"testing"

	"carillon.im/client/convo"
	"carillon.im/client/convo/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, true, func(*testing.T) convo.Store { return convo.NewMemory() })
}
