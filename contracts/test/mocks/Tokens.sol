// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @dev A token of which everybody has enough.
contract Token is ERC20("Token", "TOK") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @dev Keeps one tenth of every transfer.
contract FeeToken is Token {
    function _update(address from, address to, uint256 value) internal override {
        if (from == address(0)) return super._update(from, to, value);
        super._update(from, address(this), value / 10);
        super._update(from, to, value - value / 10);
    }
}

/// @dev Calls back in the middle of a transfer, as ERC-777 does.
contract CallbackToken is Token {
    address private _target;
    bytes private _call;

    function callBack(address target, bytes calldata data) external {
        (_target, _call) = (target, data);
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (_target == address(0)) return;
        (bool success, bytes memory result) = _target.call(_call);
        if (success) return;
        assembly {
            revert(add(result, 32), mload(result))
        }
    }
}
