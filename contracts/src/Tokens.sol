// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

/// @title Tokens
/// @notice Tokens in and out. What arrives is measured, so a token that keeps a fee cannot be booked for more than came.
abstract contract Tokens is ReentrancyGuard {
    using SafeERC20 for IERC20;

    /// @notice There is no contract at the token's address.
    error NoTokenAt(address token);

    /// @notice A token without an amount per point or peer, or an amount without a token.
    error TokenWithoutAmount(address token, uint256 amount);

    /// @dev Takes `amount` from the sender and returns what arrived. Its callers are not reentrant.
    function _pull(address token, uint256 amount) internal returns (uint256 arrived) {
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        return IERC20(token).balanceOf(address(this)) - before;
    }

    /// @dev Sends `amount` of what this contract holds.
    function _push(address token, address to, uint256 amount) internal {
        IERC20(token).safeTransfer(to, amount);
    }

    /// @dev Requires that `token` and `amount` are both zero, or a contract and an amount.
    function _requireTokenTerms(address token, uint256 amount) internal view {
        if ((token == address(0)) != (amount == 0)) revert TokenWithoutAmount(token, amount);
        if (token != address(0) && token.code.length == 0) revert NoTokenAt(token);
    }
}
